import type { Checkpoint } from './model-spec.js';

export type WeightClass = 'bf16' | 'int8' | 'int4';

/**
 * With their scales: a processor has a float32 for each 128 integers and, of four bits, a byte for each 32 of them
 * (native/cpu/matmul/packed-weight.h), a GPU a bf16 for each 64 or, of four bits, each 32 (native/cuda/weight-tiles.h).
 */
export const bytesPerWeight: Readonly<Record<WeightClass, number>> = {
  bf16: 2,
  int8: 1 + 4 / 128,
  int4: 0.5 + 4 / 128 + 1 / 32,
};

/** What a decoder's weights take in memory once they are packed to a class; the embedding table stays as it is. */
export function packedWeightBytes(
  { tensors, spec }: Pick<Checkpoint, 'tensors' | 'spec'>,
  weights: WeightClass,
): number {
  const each = bytesPerWeight[weights];
  let bytes = 0;
  for (const { name, shape, begin, end } of tensors) {
    const count = shape.reduce((a, b) => a * b, 1);
    if (name.includes('embed_tokens')) {
      bytes += end - begin + (spec.tiedEmbeddings ? count * each : 0);
    } else {
      bytes += shape.length < 2 ? count * 4 : count * each;
    }
  }
  return bytes;
}

/**
 * What the vision tower and its connector take in the processor's memory, whatever the decoder's class and device:
 * matrices in bf16, the table of positions, norms and biases in float32.
 */
export function visionWeightBytes({ visionTensors }: Pick<Checkpoint, 'visionTensors'>): number {
  let bytes = 0;
  for (const { name, shape } of visionTensors) {
    const count = shape.reduce((a, b) => a * b, 1);
    bytes += count * (shape.length < 2 || name.includes('position_embedding') ? 4 : 2);
  }
  return bytes;
}
