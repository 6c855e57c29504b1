import type { ServedModel } from './target.js';

export interface RequestLengths {
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** Lengths that the model's context has room for: the output first, then of the prompt what is left. */
export function withinContext(
  { contextLength }: ServedModel,
  { promptTokens, outputTokens }: RequestLengths,
): RequestLengths & { readonly isShortened: boolean } {
  const output = Math.min(outputTokens, contextLength - 1);
  const prompt = Math.min(promptTokens, contextLength - output);
  return {
    promptTokens: prompt,
    outputTokens: output,
    isShortened: output < outputTokens || prompt < promptTokens,
  };
}

/** What a user should know of a load that was shortened; undefined if nothing was. */
export function shorteningNotice(
  { contextLength }: ServedModel,
  shortened: number,
  all: number,
): string | undefined {
  if (shortened === 0) return undefined;
  return `${shortened} of ${all} requests are shortened to the context of ${contextLength} tokens`;
}
