import type { PromptLogprobs, TopLogprobs } from '../device/device.js';
import type { Tokenizer, TokenStream } from '../model/text.js';
import type { TokenLogprob } from '../types.js';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function describe(tokenizer: Tokenizer, token: number, logprob: number) {
  const bytes = tokenizer.tokenBytes(token);
  return { token, text: decoder.decode(bytes), bytes, logprob };
}

/** Code points of the text before a token was decoded, and with it. */
interface Decoded {
  readonly before: number;
  readonly after: number;
}

export function tokenLogprob(
  tokenizer: Tokenizer,
  token: number,
  logprob: number,
  { before, after }: Decoded,
  top: TopLogprobs | undefined,
): TokenLogprob {
  const candidates = top
    ? Array.from(top.tokens, (candidate, i) => describe(tokenizer, candidate, top.logprobs[i]!))
    : [];
  const own = describe(tokenizer, token, logprob);
  // With it may have become certain that what stands before it is no character.
  const offset = Math.max(before, after - codePointsIn(own.text));
  return { ...own, offset, top: candidates };
}

/** What `text_offset` counts, in OpenAI's API and vLLM's: where a pair of surrogates is one. */
export function codePointsIn(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Joins the scores of a prompt's chunks: a token's candidates are those that the token before it left behind. */
export class PromptScore {
  #scores: TokenLogprob[] = [];
  #candidates: TopLogprobs | undefined;
  #text: TokenStream;
  #length = 0;

  constructor(private readonly tokenizer: Tokenizer) {
    this.#text = tokenizer.stream('all');
  }

  /** The prompt is read again from its first token, after a pre-emption. */
  restart(): void {
    this.#scores = [];
    this.#candidates = undefined;
    this.#text = this.tokenizer.stream('all');
    this.#length = 0;
  }

  add(tokens: Int32Array, scored: PromptLogprobs): void {
    const { k } = scored;
    tokens.forEach((token, i) => {
      const before = this.#length;
      this.#length += codePointsIn(this.#text.push(token));
      const decoded = { before, after: this.#length };
      this.#scores.push(tokenLogprob(this.tokenizer, token, scored.logprobs[i]!, decoded, this.#candidates));
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
