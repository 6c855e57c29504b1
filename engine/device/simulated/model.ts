/** Sizes of a decoder, as far as they cost time or memory. */
export interface SimulatedModel {
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  readonly tiedEmbeddings: boolean;
  readonly contextLength: number;
  readonly bytesPerWeight: number;
}

/** From the config.json of each on the Hugging Face hub; weights as bf16. */
export const simulatedModels = {
  'llama-3.2-1b': {
    name: 'Llama-3.2-1B',
    layers: 16,
    hidden: 2048,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    ffn: 8192,
    vocab: 128256,
    tiedEmbeddings: true,
    contextLength: 131072,
    bytesPerWeight: 2,
  },
  'llama-3.1-8b': {
    name: 'Llama-3.1-8B',
    layers: 32,
    hidden: 4096,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    ffn: 14336,
    vocab: 128256,
    tiedEmbeddings: false,
    contextLength: 131072,
    bytesPerWeight: 2,
  },
  'qwen2.5-3b': {
    name: 'Qwen2.5-3B',
    layers: 36,
    hidden: 2048,
    heads: 16,
    kvHeads: 2,
    headDim: 128,
    ffn: 11008,
    vocab: 151936,
    tiedEmbeddings: true,
    contextLength: 32768,
    bytesPerWeight: 2,
  },
  'qwen2.5-7b': {
    name: 'Qwen2.5-7B',
    layers: 28,
    hidden: 3584,
    heads: 28,
    kvHeads: 4,
    headDim: 128,
    ffn: 18944,
    vocab: 152064,
    tiedEmbeddings: false,
    contextLength: 131072,
    bytesPerWeight: 2,
  },
  'qwen2.5-14b': {
    name: 'Qwen2.5-14B',
    layers: 48,
    hidden: 5120,
    heads: 40,
    kvHeads: 8,
    headDim: 128,
    ffn: 13824,
    vocab: 152064,
    tiedEmbeddings: false,
    contextLength: 131072,
    bytesPerWeight: 2,
  },
} satisfies Record<string, SimulatedModel>;

export type SimulatedModelName = keyof typeof simulatedModels;

export interface MatmulSize {
  readonly columns: number;
  readonly inner: number;
}

/** The matmuls of one layer; q, k and v are one, and gate and up are one. */
export function layerMatmuls(model: SimulatedModel): MatmulSize[] {
  const { hidden, heads, kvHeads, headDim, ffn } = model;
  return [
    { columns: (heads + 2 * kvHeads) * headDim, inner: hidden },
    { columns: hidden, inner: heads * headDim },
    { columns: 2 * ffn, inner: hidden },
    { columns: hidden, inner: ffn },
  ];
}

export function weightBytes(model: SimulatedModel): number {
  const layer = layerMatmuls(model).reduce((sum, { columns, inner }) => sum + columns * inner, 0);
  const embeddings = model.vocab * model.hidden * (model.tiedEmbeddings ? 1 : 2);
  return (model.layers * layer + embeddings) * model.bytesPerWeight;
}
