import { codePointsIn, type TokenLogprob } from '../engine/index.js';

/** A prompt that is shown before its answer, as one text with it. */
export interface Echo {
  readonly text: string;
  /** Of the text, in code points. */
  readonly length: number;
  /** Code points of the prompt's tokens that stand before what is shown: what the tokenizer begins texts with. */
  readonly hidden: number;
}

/** `decoded`: all tokens of the prompt. What was given as a text is shown as it was given. */
export function echoOf(given: string | readonly number[], decoded: string): Echo {
  const decodedLength = codePointsIn(decoded);
  if (typeof given !== 'string') return { text: decoded, length: decodedLength, hidden: 0 };
  // As the tokenizer has read it: a surrogate without its other half is no character.
  const text = Buffer.from(given).toString();
  const length = codePointsIn(text);
  return { text, length, hidden: Math.max(0, decodedLength - length) };
}

/** Tokens of the prompt, with their places in the text that is shown. */
export function promptTokens(tokens: readonly TokenLogprob[], { hidden }: Echo): readonly TokenLogprob[] {
  return moved(tokens, -hidden);
}

/** Tokens of the answer, with their places in the text that is shown. */
export function answerTokens(
  tokens: readonly TokenLogprob[],
  echo: Echo | undefined,
): readonly TokenLogprob[] {
  return moved(tokens, echo?.length ?? 0);
}

function moved(tokens: readonly TokenLogprob[], by: number): readonly TokenLogprob[] {
  if (by === 0) return tokens;
  return tokens.map((token) => ({ ...token, offset: Math.max(0, token.offset + by) }));
}
