import type { EmbeddedRows } from '../device/device.js';

/** A prompt with images, as the model and the prefix cache see it. */
export interface EmbeddedPrompt {
  /** The prompt's tokens, with the key of its image in place of each token of one: equal only where the prompts are. */
  readonly identity: Int32Array;
  /** What the tokens of its images are to the model: a run for each tile. */
  readonly embedded: readonly EmbeddedRows[];
}

/** The images of a prompt, in columns of one value for each. */
interface EmbeddedImages {
  /** Below 0; see `StoredImage`. */
  readonly keys: readonly number[];
  /** [tiles * tokensPerTile, hidden] of each */
  readonly rows: readonly Float32Array[];
  /** Where the tokens of each of its tiles begin. */
  readonly positions: readonly Int32Array[];
  readonly tokensPerTile: number;
}

export function embedPrompt(prompt: Int32Array, images: EmbeddedImages): EmbeddedPrompt {
  const { keys, rows, positions, tokensPerTile } = images;
  const identity = prompt.slice();
  const embedded = keys.flatMap((key, image) => {
    const tileValues = rows[image]!.length / positions[image]!.length;
    return Array.from(positions[image]!, (position, tile): EmbeddedRows => {
      identity.fill(key, position, position + tokensPerTile);
      return { position, values: rows[image]!.subarray(tile * tileValues, (tile + 1) * tileValues) };
    });
  });
  return { identity, embedded };
}
