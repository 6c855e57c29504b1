import { createHash } from 'node:crypto';
import type { ImageProcessing } from '../../engine/index.js';
import { cutTiles } from './cut-tiles.js';
import type { Decoder } from './decoder.js';
import { broken, type ImageSource } from './image-source.js';
import { resize } from './resize.js';
import { planTiles, type Size, type TileGrid } from './tiles.js';

/** Of one image; files that take longer were made to. */
const decodeSeconds = 20;

export interface ImageLimits {
  /** Width times height. */
  readonly maxPixels: number;
}

/** An image as the vision encoder reads it. */
export interface ReadImage {
  /** SHA-256 of the pixels. */
  readonly hash: string;
  /** [tiles, 3, tileSize, tileSize], of an image's parts row by row, then of the whole. */
  readonly pixels: Uint8Array;
  readonly grid: TileGrid;
}

/**
 * Decodes and resizes as Idefics3's image processor does, but lays what is transparent on white before it resizes, not
 * after. Throws `ApiError` 400, which names the image's place in the body.
 */
export async function readImage(
  decoder: Decoder,
  source: ImageSource,
  processing: ImageProcessing,
  limits: ImageLimits,
): Promise<ReadImage> {
  const size = await sizeOf(decoder, source, limits);
  const { longest, whole, grid } = planTiles(size, processing, source.detail !== 'low');
  const { tileSize } = processing;
  const decoded = await decode(decoder, source, limits);
  const resized = resize(resize(decoded, size, longest), longest, whole);
  const small = resize(resized, whole, { width: tileSize, height: tileSize });
  const pixels = cutTiles(resized, whole, small, grid, tileSize);
  return { hash: createHash('sha256').update(pixels).digest('hex'), pixels, grid };
}

/** As it is to be looked at. */
async function sizeOf(
  decoder: Decoder,
  { bytes, param }: ImageSource,
  { maxPixels }: ImageLimits,
): Promise<Size> {
  const found = await decoder(bytes, { limitInputPixels: false })
    .metadata()
    .catch((error: Error) => {
      throw broken(param, `cannot be read (${firstLine(error)})`);
    });
  const { width, height } = found.autoOrient;
  if (width * height > maxPixels) {
    throw broken(
      param,
      `has ${width} x ${height} pixels; the limit is ${maxPixels} in all (--max-image-pixels). Send it smaller`,
    );
  }
  return { width, height };
}

/** [height, width, 3] */
async function decode(
  decoder: Decoder,
  { bytes, param }: ImageSource,
  { maxPixels }: ImageLimits,
): Promise<Uint8Array> {
  try {
    return await decoder(bytes, { limitInputPixels: maxPixels, failOn: 'error' })
      .autoOrient()
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw()
      .timeout({ seconds: decodeSeconds })
      .toBuffer();
  } catch (error) {
    throw broken(param, `cannot be read (${firstLine(error as Error)})`);
  }
}

function firstLine({ message }: Error): string {
  return message.split('\n', 1)[0]!.slice(0, 200);
}
