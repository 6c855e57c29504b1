import type { PromptImage } from '../../engine/index.js';
import type { ImageMarkup } from './image-markup.js';
import type { ReadImage } from './read-image.js';

/** A prompt in which each image is as many tokens as the model reads of it. */
export interface ExpandedPrompt {
  readonly prompt: Int32Array;
  readonly images: readonly PromptImage[];
}

/** `positions` has the one token of each image in `prompt`, rising. */
export function expandPrompt(
  prompt: Int32Array,
  positions: readonly number[],
  images: readonly ReadImage[],
  markup: ImageMarkup,
): ExpandedPrompt {
  const expansions = images.map(({ grid }) => markup.tokensOf(grid));
  const added = expansions.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  const out = new Int32Array(prompt.length + added);
  let [from, to] = [0, 0];
  const placed = images.map(({ hash, pixels }, index): PromptImage => {
    const { tokens, tiles } = expansions[index]!;
    const position = positions[index]!;
    out.set(prompt.subarray(from, position), to);
    const begin = to + position - from;
    out.set(tokens, begin);
    from = position + 1;
    to = begin + tokens.length;
    return { hash, pixels, positions: tiles.map((tile) => begin + tile) };
  });
  out.set(prompt.subarray(from), to);
  return { prompt: out, images: placed };
}
