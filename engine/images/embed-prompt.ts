import type { EmbeddedRows } from '../device/device.js';
import type { StoredImage } from './image-store.js';

/** A prompt with images, as the model and the prefix cache see it. */
export interface EmbeddedPrompt {
  /** The prompt's tokens, with the key of its image in place of each token of one: equal only where the prompts are. */
  readonly identity: Int32Array;
  /** What the tokens of its images are to the model: a run for each tile. */
  readonly embedded: readonly EmbeddedRows[];
}

/** An image, and where in a prompt the tokens of each of its tiles begin. */
export interface PlacedImage {
  readonly image: StoredImage;
  readonly positions: Int32Array;
}

/** Resolves once all of them are encoded. Rejects with `EngineError`. */
export async function embedPrompt(
  prompt: Int32Array,
  images: readonly PlacedImage[],
  tokensPerTile: number,
): Promise<EmbeddedPrompt> {
  const rows = await Promise.all(images.map(({ image }) => image.rows));
  const identity = prompt.slice();
  const embedded = images.flatMap(({ image: { key }, positions }, index) => {
    // Of an image that is waited for there are rows.
    const values = rows[index]!;
    const tileValues = values.length / positions.length;
    return Array.from(positions, (position, tile): EmbeddedRows => {
      identity.fill(key, position, position + tokensPerTile);
      return { position, values: values.subarray(tile * tileValues, (tile + 1) * tileValues) };
    });
  });
  return { identity, embedded };
}
