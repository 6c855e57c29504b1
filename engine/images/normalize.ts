import type { ImageProcessing } from '../model/image-processing.js';

/** Pixels 0..255 as a vision encoder reads them. pixels, out [3, size, size] */
export function normalizeTile(
  pixels: Uint8Array,
  { rescaleFactor, mean, std }: Pick<ImageProcessing, 'rescaleFactor' | 'mean' | 'std'>,
  out: Float32Array,
): void {
  const plane = pixels.length / 3;
  for (let channel = 0; channel < 3; channel++) {
    const [from, by] = [mean[channel]!, std[channel]!];
    const begin = channel * plane;
    for (let i = begin; i < begin + plane; i++) out[i] = (pixels[i]! * rescaleFactor - from) / by;
  }
}
