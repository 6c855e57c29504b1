import type { PromptLogprobs, TopLogprobs } from '../device/device.js';
import type { Tokenizer } from '../model/text.js';
import type { TokenLogprob } from '../types.js';

const decoder = new TextDecoder();

function describe(tokenizer: Tokenizer, token: number, logprob: number) {
  const bytes = tokenizer.tokenBytes(token);
  return { token, text: decoder.decode(bytes), bytes, logprob };
}

export function tokenLogprob(
  tokenizer: Tokenizer,
  token: number,
  logprob: number,
  top: TopLogprobs | undefined,
): TokenLogprob {
  const candidates = top
    ? Array.from(top.tokens, (candidate, i) => describe(tokenizer, candidate, top.logprobs[i]!))
    : [];
  return { ...describe(tokenizer, token, logprob), top: candidates };
}

/** Joins the scores of a prompt's chunks: a token's candidates are those that the token before it left behind. */
export class PromptScore {
  #scores: TokenLogprob[] = [];
  #candidates: TopLogprobs | undefined;

  constructor(private readonly tokenizer: Tokenizer) {}

  /** The prompt is read again from its first token, after a pre-emption. */
  restart(): void {
    this.#scores = [];
    this.#candidates = undefined;
  }

  add(tokens: Int32Array, scored: PromptLogprobs): void {
    const { k } = scored;
    tokens.forEach((token, i) => {
      this.#scores.push(tokenLogprob(this.tokenizer, token, scored.logprobs[i]!, this.#candidates));
      this.#candidates = {
        tokens: scored.nextTokens.subarray(i * k, (i + 1) * k),
        logprobs: scored.nextLogprobs.subarray(i * k, (i + 1) * k),
      };
    });
  }

  scores(): readonly TokenLogprob[] {
    return this.#scores;
  }
}
