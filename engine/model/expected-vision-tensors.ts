import type { VisionSpec } from './model-spec.js';

const channels = 3;

/** Names and shapes of the tensors of a vision tower and its connector to a decoder of width `decoderHidden`. */
export function* expectedVisionTensors(
  vision: VisionSpec,
  decoderHidden: number,
): Generator<[name: string, shape: readonly number[]]> {
  const { hidden, ffn, layers, patchSize, patchesPerSide, scaleFactor } = vision;
  const tower = 'model.vision_model.';
  const linear = function* (name: string, outputs: number, inputs: number) {
    yield [`${name}.weight`, [outputs, inputs]] as [string, number[]];
    yield [`${name}.bias`, [outputs]] as [string, number[]];
  };
  const norm = function* (name: string) {
    yield [`${name}.weight`, [hidden]] as [string, number[]];
    yield [`${name}.bias`, [hidden]] as [string, number[]];
  };
  yield [`${tower}embeddings.patch_embedding.weight`, [hidden, channels, patchSize, patchSize]];
  yield [`${tower}embeddings.patch_embedding.bias`, [hidden]];
  yield [`${tower}embeddings.position_embedding.weight`, [patchesPerSide ** 2, hidden]];
  for (let layer = 0; layer < layers; layer++) {
    const at = `${tower}encoder.layers.${layer}.`;
    yield* norm(`${at}layer_norm1`);
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) {
      yield* linear(`${at}self_attn.${name}`, hidden, hidden);
    }
    yield* norm(`${at}layer_norm2`);
    yield* linear(`${at}mlp.fc1`, ffn, hidden);
    yield* linear(`${at}mlp.fc2`, hidden, ffn);
  }
  yield* norm(`${tower}post_layernorm`);
  yield ['model.connector.modality_projection.proj.weight', [decoderHidden, hidden * scaleFactor ** 2]];
}
