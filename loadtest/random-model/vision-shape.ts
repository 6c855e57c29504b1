import type { TensorPlan } from './model-shape.js';

/** Sizes of the vision tower of an Idefics3. */
export interface VisionShape {
  /** Pixels of a tile's side, and of a patch's. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly ffn: number;
  /** Patches of a square's side that become one row of the decoder's. */
  readonly scaleFactor: number;
}

const channels = 3;

/** The tower's tensors, and the connector's to a decoder of width `decoderHidden`. */
export function visionTensorsOf(shape: VisionShape, decoderHidden: number): TensorPlan[] {
  const { hidden, ffn, imageSize, patchSize, scaleFactor } = shape;
  const tower = 'model.vision_model';
  const plan = (name: string, kind: TensorPlan['kind'], rows: number, cols: number): TensorPlan => ({
    name,
    ggufName: '',
    rows,
    cols,
    kind,
    rotatedHeads: 0,
  });
  const norm = (name: string) => [
    plan(`${name}.weight`, 'norm', 1, hidden),
    plan(`${name}.bias`, 'bias', 1, hidden),
  ];
  const linear = (name: string, rows: number, cols: number) => [
    plan(`${name}.weight`, 'matrix', rows, cols),
    plan(`${name}.bias`, 'bias', 1, rows),
  ];
  const [patches, patchBias] = linear(
    `${tower}.embeddings.patch_embedding`,
    hidden,
    channels * patchSize ** 2,
  );
  const positions = Math.floor(imageSize / patchSize) ** 2;
  const layer = (index: number): TensorPlan[] => {
    const at = `${tower}.encoder.layers.${index}`;
    return [
      ...norm(`${at}.layer_norm1`),
      ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((name) =>
        linear(`${at}.self_attn.${name}`, hidden, hidden),
      ),
      ...norm(`${at}.layer_norm2`),
      ...linear(`${at}.mlp.fc1`, ffn, hidden),
      ...linear(`${at}.mlp.fc2`, hidden, ffn),
    ];
  };
  return [
    { ...patches!, dimensions: [hidden, channels, patchSize, patchSize] },
    patchBias!,
    plan(`${tower}.embeddings.position_embedding.weight`, 'matrix', positions, hidden),
    ...Array.from({ length: shape.layers }, (_, index) => layer(index)).flat(),
    ...norm(`${tower}.post_layernorm`),
    plan(
      'model.connector.modality_projection.proj.weight',
      'matrix',
      decoderHidden,
      hidden * scaleFactor ** 2,
    ),
  ];
}

/** Rows of the decoder's that a tile becomes. */
export function tokensPerTile({ imageSize, patchSize, scaleFactor }: VisionShape): number {
  return (Math.floor(imageSize / patchSize) / scaleFactor) ** 2;
}

/** Throws a RangeError that names what does not fit together. */
export function checkVision(shape: VisionShape): void {
  const columns = {
    'vision hidden': shape.hidden,
    'vision ffn': shape.ffn,
    'values of a patch': channels * shape.patchSize ** 2,
  };
  for (const [name, value] of Object.entries(columns)) {
    if (!Number.isInteger(value) || value < 32 || value % 32 !== 0) {
      throw new RangeError(`${name} is ${value}: expected a multiple of 32, a block of weights`);
    }
  }
  if (shape.hidden % shape.heads !== 0) {
    throw new RangeError(`vision hidden (${shape.hidden}) is no multiple of vision heads (${shape.heads})`);
  }
  if (!Number.isInteger(tokensPerTile(shape))) {
    throw new RangeError(
      `scaleFactor is ${shape.scaleFactor}: the patches of a side (${shape.imageSize} / ${shape.patchSize}) are no multiple`,
    );
  }
}
