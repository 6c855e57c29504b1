import type sharp from 'sharp';
import { ApiError } from '../openai/errors.js';

export type Decoder = typeof sharp;

/**
 * sharp, with whatever else it can do switched off: formats that run code or read other files. Rejects with `ApiError` 500
 * where it does not load.
 */
export async function openDecoder(): Promise<Decoder> {
  const decoder = await loadDecoder().catch(({ message }: Error) => {
    throw new ApiError(
      500,
      'server_error',
      `Images cannot be read here: ${message}. On the server, ${decoderAdvice}.`,
      { code: 'image_decoder_missing' },
    );
  });
  decoder.block({ operation: ['VipsForeignLoad'] });
  decoder.unblock({
    operation: ['VipsForeignLoadPngBuffer', 'VipsForeignLoadJpegBuffer', 'VipsForeignLoadWebpBuffer'],
  });
  // An image is seldom read twice, and cores are for the lanes.
  decoder.cache(false);
  decoder.concurrency(1);
  return decoder;
}

/** sharp's program comes in a package of its own for each platform, which an installation may lack; then this rejects. */
export async function loadDecoder(): Promise<Decoder> {
  try {
    return (await import('sharp')).default;
  } catch (error) {
    const [reason] = (error as Error).message.split('\n', 1);
    throw new Error(`the package 'sharp', which decodes them, does not load (${reason})`);
  }
}

/** What to do then. */
export const decoderAdvice =
  "install it with its package for this platform, as 'npm ci --include=optional' does, and start the server again";
