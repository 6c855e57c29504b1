import type { Checkpoint } from './model-spec.js';

/** Integers come in groups with a float32 scale each (native/cpu/matmul); the embedding table stays as it is. */
const groupWeights = 128;

/** What a decoder's weights take in memory once they are packed to a class. */
export function packedWeightBytes(
  { tensors, spec }: Pick<Checkpoint, 'tensors' | 'spec'>,
  weights: 'bf16' | 'int8' | 'int4',
): number {
  const bytesPerWeight = { bf16: 2, int8: 1 + 4 / groupWeights, int4: 0.5 + 4 / groupWeights }[weights];
  let bytes = 0;
  for (const { name, shape, begin, end } of tensors) {
    const count = shape.reduce((a, b) => a * b, 1);
    if (name.includes('embed_tokens')) {
      bytes += end - begin + (spec.tiedEmbeddings ? count * bytesPerWeight : 0);
    } else {
      bytes += shape.length < 2 ? count * 4 : count * bytesPerWeight;
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
