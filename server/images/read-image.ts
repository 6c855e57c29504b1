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
  const { size, isCmyk } = await headOf(decoder, source, limits);
  const { longest, whole, grid } = planTiles(size, processing, source.detail !== 'low');
  const { tileSize } = processing;
  const decoded = isCmyk
    ? rgbOfCmyk(await decode(decoder, source, limits, 'cmyk'))
    : await decode(decoder, source, limits, 'srgb');
  const resized = resize(resize(decoded, size, longest), longest, whole);
  const small = resize(resized, whole, { width: tileSize, height: tileSize });
  const pixels = cutTiles(resized, whole, small, grid, tileSize);
  return { hash: createHash('sha256').update(pixels).digest('hex'), pixels, grid };
}

/** `size`: as it is to be looked at. */
async function headOf(
  decoder: Decoder,
  { bytes, param }: ImageSource,
  { maxPixels }: ImageLimits,
): Promise<{ size: Size; isCmyk: boolean }> {
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
  return { size: { width, height }, isCmyk: found.space === 'cmyk' };
}

/**
 * [height, width, 3], or 4 of CMYK. Colour profiles are left alone, as by Pillow, with which models are trained: what is shown to
 * them is the numbers in the file.
 */
async function decode(
  decoder: Decoder,
  { bytes, param }: ImageSource,
  { maxPixels }: ImageLimits,
  space: 'srgb' | 'cmyk',
): Promise<Uint8Array> {
  try {
    return await decoder(bytes, { limitInputPixels: maxPixels, failOn: 'error', ignoreIcc: true })
      .pipelineColourspace(space)
      .autoOrient()
      .flatten({ background: '#ffffff' })
      .toColourspace(space)
      .raw()
      .timeout({ seconds: decodeSeconds })
      .toBuffer();
  } catch (error) {
    throw broken(param, `cannot be read (${firstLine(error as Error)})`);
  }
}

/** As Pillow has it: inks of the complementary colours, and black over all. cmyk [pixels, 4] */
function rgbOfCmyk(cmyk: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((cmyk.length / 4) * 3);
  for (let pixel = 0; pixel < cmyk.length / 4; pixel++) {
    const light = 255 - cmyk[pixel * 4 + 3]!;
    for (let ink = 0; ink < 3; ink++) {
      rgb[pixel * 3 + ink] = Math.round(((255 - cmyk[pixel * 4 + ink]!) * light) / 255);
    }
  }
  return rgb;
}

function firstLine({ message }: Error): string {
  return message.split('\n', 1)[0]!.slice(0, 200);
}
