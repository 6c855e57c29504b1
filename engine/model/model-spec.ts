/**
 * One description of a decoder-only transformer, made from a checkpoint's `config.json`. It is all that native knows
 * of a model: there is no class per family.
 */
export interface ModelSpec {
  readonly family: TextFamily | 'idefics3' | 'smolvlm';
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  /** Longest sequence the model was made for, in tokens, after RoPE scaling. */
  readonly contextLength: number;
  readonly normEps: number;
  readonly rope: RopeSpec;
  /** Biases on q, k, v projections (Qwen2) and on o (Llama with attention_bias). */
  readonly attentionBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** RMSNorm on each head's q and k before RoPE (Qwen3). */
  readonly qkNorm: boolean;
  readonly tiedEmbeddings: boolean;
  /** Per layer: how many latest tokens a token may attend to, itself included; 0 means all. */
  readonly slidingWindow: readonly number[];
  /** What makes rows of the decoder's embeddings of images; absent: the model reads text alone. */
  readonly vision?: VisionSpec;
}

export type TextFamily = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

/**
 * A SigLIP tower (Zhai et al. 2023) over square tiles of an image, and the connector of Idefics3 (Laurençon et al. 2024,
 * section 3.1) behind it: each `scaleFactor` x `scaleFactor` patches become one row of the decoder's width.
 */
export interface VisionSpec {
  /** Pixels of a tile's side. */
  readonly imageSize: number;
  /** Pixels of a patch's side. */
  readonly patchSize: number;
  /** Whole ones: what is left of a tile beside the last is not looked at. */
  readonly patchesPerSide: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly ffn: number;
  readonly normEps: number;
  readonly scaleFactor: number;
  /** Of the token that stands in a prompt wherever a row of an image goes. */
  readonly imageTokenId: number;
  /** Rows that a tile becomes: (patchesPerSide / scaleFactor)^2. */
  readonly tokensPerTile: number;
}

/**
 * The inverse frequencies after scaling, computed once in float64 by `rope.ts`; native only multiplies by positions.
 * So plain, linear, Llama-3 and YaRN scaling are one code path.
 */
export interface RopeSpec {
  /** [headDim / 2], in the half-split ("rotate_half") layout of Hugging Face checkpoints. */
  readonly inverseFrequencies: readonly number[];
  /** Factor on cos and sin (YaRN's attention factor); 1 otherwise. */
  readonly attentionFactor: number;
}

export type FloatDtype = 'bf16' | 'f16' | 'f32';

/** Where numbers of a checkpoint lie, checked against the file's size. */
export interface Place {
  /** Index into `Checkpoint.files`. */
  readonly file: number;
  /** Byte range in the file. */
  readonly begin: number;
  readonly end: number;
}

export interface TensorEntry extends Place {
  readonly name: string;
  /** e4m3: fp8, times a scale. */
  readonly dtype: FloatDtype | 'e4m3';
  readonly shape: readonly number[];
  /** Of a matrix in e4m3. */
  readonly scales?: WeightScales;
}

/** One scale for each block of a matrix, row by row: [ceil(rows / blockRows), ceil(cols / blockCols)]. */
export interface WeightScales extends Place {
  readonly dtype: FloatDtype;
  readonly blockRows: number;
  readonly blockCols: number;
}

export interface Checkpoint {
  readonly folder: string;
  readonly spec: ModelSpec;
  readonly files: readonly string[];
  /** The decoder's. */
  readonly tensors: readonly TensorEntry[];
  /** Of what `ModelSpec.vision` describes; none without it. */
  readonly visionTensors: readonly TensorEntry[];
}
