import path from 'node:path';
import { z } from 'zod';
import { invalidModel, quoted, readJsonIfThere } from './model-files.js';
import type { VisionSpec } from './model-spec.js';

/** How images become the tiles that a vision encoder reads. */
export interface ImageProcessing {
  /** Pixels of the longer edge that every image is resized to first, before it is cut into tiles. */
  readonly longestEdge: number;
  /** Pixels of a tile's side. */
  readonly tileSize: number;
  /** What a pixel's 0..255 is multiplied by; then the mean is taken away and it is divided by the deviation, by channel. */
  readonly rescaleFactor: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

const maxBytes = 1024 * 1024;
const edge = (byDefault: number) =>
  z.looseObject({ longest_edge: z.int().min(1).max(16_384) }).default({ longest_edge: byDefault });
const channels = (byDefault: number) => {
  const value = z.number().finite();
  return z.tuple([value, value, value]).default([byDefault, byDefault, byDefault]);
};
/** What images would be without it is not what the model was trained on. */
const always = z.literal(true, { error: 'only true is supported' }).default(true);
const lanczos = 1;

/** Defaults are those of `Idefics3ImageProcessor` in transformers. */
const Config = z.looseObject({
  do_resize: always,
  size: edge(4 * 364),
  resample: z.literal(lanczos, { error: `only ${lanczos} (Lanczos) is supported` }).default(lanczos),
  do_image_splitting: always,
  max_image_size: edge(364),
  do_rescale: always,
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  do_normalize: always,
  image_mean: channels(0.5),
  image_std: channels(0.5),
});

/**
 * From the folder's `preprocessor_config.json`, of a model with this vision encoder. Throws `EngineError('model_invalid')`
 * where it is not there, asks for what is not supported, or makes other tiles than the encoder reads.
 */
export async function readImageProcessing(folder: string, vision: VisionSpec): Promise<ImageProcessing> {
  const file = path.resolve(folder, 'preprocessor_config.json');
  const json = await readJsonIfThere(file, maxBytes);
  if (json === undefined) throw invalidModel(file, 'is missing: it says how images are resized');
  const parsed = Config.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalidModel(file, `${issue?.path.join('.') || 'value'}: ${issue?.message}`);
  }
  const { size, max_image_size, rescale_factor, image_mean, image_std } = parsed.data;
  const tileSize = max_image_size.longest_edge;
  if (tileSize !== vision.imageSize) {
    throw invalidModel(
      file,
      `max_image_size ${tileSize} is not the image_size of the vision encoder, ${vision.imageSize}`,
    );
  }
  if (image_std.includes(0)) throw invalidModel(file, `image_std ${quoted(image_std)} has a 0`);
  return {
    longestEdge: size.longest_edge,
    tileSize,
    rescaleFactor: rescale_factor,
    mean: image_mean,
    std: image_std,
  };
}
