import process from 'node:process';
import { randomPrompt, randomPrompts } from '../device/prompts.js';
import type { MixedPlan, MixedTimes } from '../serve/mixed-scenario.js';
import { type LlamaContext, loadLlamaBindings } from './llama-bindings.js';

/** What the parent process sends, once. */
export interface LlamaMixedCall {
  /** Where node-llama-cpp was installed. */
  readonly prefix: string;
  readonly ggufFile: string;
  readonly threads: number;
  readonly stepTokens: number;
  /** Ids of prompts are below it. */
  readonly vocab: number;
  readonly plan: MixedPlan;
}

export type LlamaMixedAnswer = { readonly times: MixedTimes } | { readonly error: string };

/** Tokens that a stream may generate before it starts anew. */
const streamTokens = 1024;

/**
 * The mixed scenario by llama.cpp with continuous batching, as its server and node-llama-cpp do it: every step carries
 * one token of each stream, and of the prompt that is read what a batch has room for. Neither HTTP nor sampling is
 * counted, in its favour.
 */
async function measure({ prefix, ggufFile, threads, stepTokens, vocab, plan }: LlamaMixedCall) {
  const bindings = await loadLlamaBindings(prefix, threads);
  const model = new bindings.AddonModel(ggufFile, { gpuLayers: 0, useMmap: true });
  if (!(await model.init())) throw new Error(`${ggufFile} could not be loaded`);
  const sequences = plan.streams + 1;
  const context = new bindings.AddonContext(model, {
    contextSize: sequences * Math.max(plan.longPrompt + 2, plan.shortPrompt + streamTokens),
    batchSize: stepTokens,
    sequences,
    threads,
    flashAttention: 'auto',
  });
  if (!(await context.init())) throw new Error(`no context for ${sequences} sequences`);
  try {
    const longPrompt = randomPrompt(plan.longPrompt, vocab, 1);
    const streams = randomPrompts(plan.streams, plan.shortPrompt, vocab, 2);
    return await new Batching(context, stepTokens, longPrompt, streams).run(plan);
  } finally {
    await context.dispose();
    await model.dispose();
  }
}

const lastOf = (tokens: number) => Uint32Array.of(tokens - 1);

class Batching {
  /** Of each stream, tokens in its sequence; none while it does not run. */
  readonly #positions: number[] = [];

  constructor(
    private readonly context: LlamaContext,
    private readonly stepTokens: number,
    private readonly longPrompt: readonly number[],
    private readonly streams: readonly (readonly number[])[],
  ) {}

  async run({ turnsAlone, phaseSeconds }: MixedPlan): Promise<MixedTimes> {
    const noGaps: number[] = [];
    await this.#readLong(noGaps);
    const aloneTtft: number[] = [];
    for (let turn = 0; turn < turnsAlone; turn += 1) aloneTtft.push(await this.#readLong(noGaps));

    for (const stream of this.streams.keys()) await this.#startStream(stream);
    const idleGaps: number[] = [];
    const idleFrom = performance.now();
    while (performance.now() < idleFrom + phaseSeconds * 1000) await this.#step(idleGaps);
    const busyFrom = performance.now();
    const busyGaps: number[] = [];
    const besideTtft: number[] = [];
    while (performance.now() < busyFrom + phaseSeconds * 1000)
      besideTtft.push(await this.#readLong(busyGaps));
    const idleMs = busyFrom - idleFrom;
    return { idleGaps, busyGaps, aloneTtft, besideTtft, idleMs, busyMs: performance.now() - busyFrom };
  }

  async #startStream(stream: number): Promise<void> {
    const prompt = this.streams[stream]!;
    this.context.disposeSequence(stream);
    this.context.initBatch(prompt.length);
    this.context.addToBatch(stream, 0, Uint32Array.from(prompt), lastOf(prompt.length));
    await this.context.decodeBatch();
    this.#positions[stream] = prompt.length;
  }

  /** Milliseconds until its first token; the second comes with the next step, as in the mixed scenario. */
  async #readLong(gaps: number[]): Promise<number> {
    const sequence = this.streams.length;
    const { longPrompt } = this;
    this.context.disposeSequence(sequence);
    const begin = performance.now();
    const room = this.stepTokens - this.#positions.length;
    for (let at = 0; at < longPrompt.length; at += room) {
      const tokens = longPrompt.slice(at, at + room);
      const isLast = at + tokens.length === longPrompt.length;
      await this.#step(gaps, { sequence, position: at, tokens, isLast });
    }
    const ttft = performance.now() - begin;
    const tokens = longPrompt.slice(0, 1);
    await this.#step(gaps, { sequence, position: longPrompt.length, tokens, isLast: true });
    return ttft;
  }

  /** One token of every stream, and a part of a prompt. Adds the time it took to `gaps`, once for each stream. */
  async #step(
    gaps: number[],
    chunk?: { sequence: number; position: number; tokens: readonly number[]; isLast: boolean },
  ): Promise<void> {
    const begin = performance.now();
    const streams = this.#positions.length;
    this.context.initBatch(streams + (chunk?.tokens.length ?? 0));
    for (const [stream, position] of this.#positions.entries()) {
      const prompt = this.streams[stream]!;
      // Which token comes next is no matter of time, so nothing is sampled, as in llama-bench.
      const token = prompt[position % prompt.length]!;
      this.context.addToBatch(stream, position, Uint32Array.of(token), lastOf(1));
      this.#positions[stream] = position + 1;
    }
    if (chunk) {
      const wanted = chunk.isLast ? lastOf(chunk.tokens.length) : new Uint32Array();
      this.context.addToBatch(chunk.sequence, chunk.position, Uint32Array.from(chunk.tokens), wanted);
    }
    await this.context.decodeBatch();
    const milliseconds = performance.now() - begin;
    for (let stream = 0; stream < streams; stream += 1) gaps.push(milliseconds);
    for (const [stream, position] of this.#positions.entries()) {
      if (position >= this.streams[stream]!.length + streamTokens) await this.#startStream(stream);
    }
  }
}

process.once('message', async (call: LlamaMixedCall) => {
  const answer = await measure(call).then(
    (times): LlamaMixedAnswer => ({ times }),
    (error: Error): LlamaMixedAnswer => ({ error: error.message }),
  );
  process.send!(answer, () => process.disconnect());
});
