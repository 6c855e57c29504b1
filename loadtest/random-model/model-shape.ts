import { checkVision, type VisionShape, visionTensorsOf } from './vision-shape.js';

/** Sizes of a Llama-style decoder. */
export interface ModelShape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  readonly ropeTheta: number;
  readonly contextLength: number;
  readonly normEps: number;
  /** Whether the table of embeddings is the matrix to logits too. */
  readonly tiedEmbeddings: boolean;
  /** Absent: it reads text alone. */
  readonly vision?: VisionShape;
}

/** Llama-3.2-1B without its RoPE scaling, which costs nothing and so measures nothing. */
export const llama1b: ModelShape = {
  layers: 16,
  hidden: 2048,
  heads: 32,
  kvHeads: 8,
  headDim: 64,
  ffn: 8192,
  vocab: 128256,
  ropeTheta: 500_000,
  contextLength: 131_072,
  normEps: 1e-5,
  tiedEmbeddings: true,
};

/** Llama-3.1-8B, likewise. */
const llama8b: ModelShape = {
  ...llama1b,
  layers: 32,
  hidden: 4096,
  headDim: 128,
  ffn: 14336,
  tiedEmbeddings: false,
};

/** SmolVLM-256M: SmolLM2-135M, and SigLIP's base tower over tiles of 512 pixels. */
const smolVlm256m: ModelShape = {
  layers: 30,
  hidden: 576,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  ffn: 1536,
  vocab: 49280,
  ropeTheta: 100_000,
  contextLength: 8192,
  normEps: 1e-5,
  tiedEmbeddings: false,
  vision: { imageSize: 512, patchSize: 16, layers: 12, hidden: 768, heads: 12, ffn: 3072, scaleFactor: 4 },
};

export const shapes = { '1b': llama1b, '8b': llama8b, 'smolvlm-256m': smolVlm256m } as const;

/** One tensor of the model under both of its names. */
export interface TensorPlan {
  /** In a Hugging Face checkpoint. */
  readonly name: string;
  /** In a GGUF file; that has no tensors of a vision tower. */
  readonly ggufName: string;
  /** [rows, cols]; a norm and a bias have one row. */
  readonly rows: number;
  readonly cols: number;
  readonly kind: 'matrix' | 'norm' | 'bias';
  /** In the checkpoint, where it is another than [rows, cols] or [cols]. */
  readonly dimensions?: readonly number[];
  /**
   * Heads whose rows GGUF keeps in another order: its llama architecture rotates neighbours (2i, 2i + 1), Hugging Face
   * rotates halves (i, i + headDim / 2). 0: same order.
   */
  readonly rotatedHeads: number;
}

export function tensorsOf(shape: ModelShape): TensorPlan[] {
  const { hidden, ffn, vision } = shape;
  const decoder = vision ? 'model.text_model' : 'model';
  const query = shape.heads * shape.headDim;
  const keyValue = shape.kvHeads * shape.headDim;
  const matrix = (
    name: string,
    ggufName: string,
    rows: number,
    cols: number,
    rotatedHeads = 0,
  ): TensorPlan => ({
    name: `${name}.weight`,
    ggufName: `${ggufName}.weight`,
    rows,
    cols,
    kind: 'matrix',
    rotatedHeads,
  });
  const norm = (name: string, ggufName: string): TensorPlan => ({
    ...matrix(name, ggufName, 1, hidden),
    kind: 'norm',
  });
  const layer = (index: number): TensorPlan[] => {
    const from = `${decoder}.layers.${index}`;
    const to = `blk.${index}`;
    return [
      norm(`${from}.input_layernorm`, `${to}.attn_norm`),
      matrix(`${from}.self_attn.q_proj`, `${to}.attn_q`, query, hidden, shape.heads),
      matrix(`${from}.self_attn.k_proj`, `${to}.attn_k`, keyValue, hidden, shape.kvHeads),
      matrix(`${from}.self_attn.v_proj`, `${to}.attn_v`, keyValue, hidden),
      matrix(`${from}.self_attn.o_proj`, `${to}.attn_output`, hidden, query),
      norm(`${from}.post_attention_layernorm`, `${to}.ffn_norm`),
      matrix(`${from}.mlp.gate_proj`, `${to}.ffn_gate`, ffn, hidden),
      matrix(`${from}.mlp.up_proj`, `${to}.ffn_up`, ffn, hidden),
      matrix(`${from}.mlp.down_proj`, `${to}.ffn_down`, hidden, ffn),
    ];
  };
  return [
    matrix(`${decoder}.embed_tokens`, 'token_embd', shape.vocab, hidden),
    ...Array.from({ length: shape.layers }, (_, index) => layer(index)).flat(),
    norm(`${decoder}.norm`, 'output_norm'),
    ...(shape.tiedEmbeddings ? [] : [matrix('lm_head', 'output', shape.vocab, hidden)]),
    ...(vision ? visionTensorsOf(vision, hidden) : []),
  ];
}

/** The row of the Hugging Face tensor that GGUF keeps as its row `row`. */
export function rotatedRow(plan: TensorPlan, row: number): number {
  if (plan.rotatedHeads === 0) return row;
  const headDim = plan.rows / plan.rotatedHeads;
  const within = row % headDim;
  return row - within + (within % 2) * (headDim / 2) + (within >> 1);
}

/** Throws a RangeError that names what does not fit together. */
export function checkShape(shape: ModelShape): void {
  const whole: Exclude<keyof ModelShape, 'tiedEmbeddings' | 'vision'>[] = [
    'layers',
    'hidden',
    'heads',
    'kvHeads',
    'headDim',
    'ffn',
    'vocab',
  ];
  for (const key of whole) {
    if (!Number.isInteger(shape[key]) || shape[key] < 1) {
      throw new RangeError(`${key} is ${shape[key]}: expected a whole number above 0`);
    }
  }
  const columns = { hidden: shape.hidden, ffn: shape.ffn, 'heads x headDim': shape.heads * shape.headDim };
  for (const [name, value] of Object.entries(columns)) {
    if (value % 32 !== 0)
      throw new RangeError(`${name} is ${value}: expected a multiple of 32, a block of weights`);
  }
  if (shape.headDim % 2 !== 0) throw new RangeError(`headDim is ${shape.headDim}: RoPE rotates pairs`);
  if (shape.heads % shape.kvHeads !== 0) {
    throw new RangeError(`heads (${shape.heads}) is no multiple of kvHeads (${shape.kvHeads})`);
  }
  if (shape.vocab < 512)
    throw new RangeError(`vocab is ${shape.vocab}: expected 512 or more, 256 are the bytes`);
  if (shape.vision) checkVision(shape.vision);
}
