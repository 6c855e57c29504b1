import { randomPrompt, randomPrompts } from '../device/prompts.js';
import type { Runner } from './runner.js';

export interface Workload {
  /** As llama-bench names it: pp512 reads a prompt of 512 tokens, tg128 generates 128 tokens. */
  readonly name: string;
  /** Tokens that one run processes. */
  readonly tokens: number;
  /** Seconds. */
  run(runner: Runner): Promise<number>;
}

/** Tokens each sequence holds before generation starts. */
export const decodePromptTokens = 32;

export function prefillWorkload(tokens: number, vocab: number): Workload {
  const prompt = randomPrompt(tokens, vocab, tokens);
  return { name: `pp${tokens}`, tokens, run: (runner) => runner.prefill(prompt) };
}

export function decodeWorkload(sequences: number, steps: number, vocab: number): Workload {
  const prompts = randomPrompts(sequences, decodePromptTokens, vocab, sequences);
  const together = sequences === 1 ? '1 sequence' : `${sequences} sequences`;
  return {
    name: `tg${steps}, ${together}`,
    tokens: sequences * steps,
    run: (runner) => runner.decode(prompts, steps),
  };
}
