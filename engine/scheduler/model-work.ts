import type { ModelSpec } from '../model/model-spec.js';
import { bytesPerWeight, type WeightClass } from '../model/weight-bytes.js';
import type { StepLoad } from './step-load.js';

/** Rows that go through the lm head at a time: kLogitRows in native/model/forward.cc. */
const logitRowsPerPass = 32;
/** Activations are float32 between operators. */
const activationBytes = 4;

/**
 * Arithmetic and bytes of one model, per unit of load. A sliding window is not looked at: `StepLoad` counts a token's
 * whole past, so attention of such a model is overestimated until the correction has seen some steps.
 */
export interface ModelWork {
  /** FLOP of one row through all layers' matmuls, and the bytes of their weights. */
  readonly layerFlops: number;
  readonly layerBytes: number;
  /** The lm head's: only rows that are sampled from pass it. */
  readonly headFlops: number;
  readonly headBytes: number;
  /** FLOP of one (query, key) pair over all layers: a product with K and one with V, each a multiply and an add. */
  readonly pairFlops: number;
  /** Norms, RoPE, activations, residuals: elementary operations and activation bytes of a row over all layers. */
  readonly rowOperations: number;
  readonly rowBytes: number;
  /** Bytes of a row's activations that go into matmuls, whatever unit computed them. */
  readonly exchangeBytes: number;
  /** Sampling: operations and bytes of one row of logits. */
  readonly logitOperations: number;
  readonly logitBytes: number;
  /** Launches of a step for each of `operatorClasses`, where the class has work at all. */
  readonly launches: readonly number[];
}

/** What of a model's shape costs time. */
export type ModelSizes = Pick<
  ModelSpec,
  'layers' | 'hidden' | 'heads' | 'kvHeads' | 'headDim' | 'ffn' | 'vocab'
>;

export function modelWork(spec: ModelSizes, weights: WeightClass): ModelWork {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = spec;
  const query = heads * headDim;
  const keyValue = 2 * kvHeads * headDim;
  const layerWeights = hidden * (query + keyValue) + query * hidden + 3 * hidden * ffn;
  const headWeights = hidden * vocab;
  const bytes = bytesPerWeight[weights];
  return {
    layerFlops: 2 * layers * layerWeights,
    layerBytes: layers * layerWeights * bytes,
    headFlops: 2 * headWeights,
    headBytes: headWeights * bytes,
    pairFlops: 4 * layers * heads * headDim,
    // Two norms (square, sum, scale, weight), RoPE on q and k (two products and a sum an element), K and V appended.
    rowOperations: layers * (8 * hidden + 3 * (query + keyValue / 2) + keyValue),
    // Read and written: the norms' rows, q, k and v.
    rowBytes: layers * activationBytes * (4 * hidden + 2 * (query + keyValue)),
    // Inputs of qkv, output, gate and up, down.
    exchangeBytes: layers * activationBytes * (2 * hidden + query + ffn),
    // The greatest, the sum of exponentials, the draw.
    logitOperations: 4 * vocab,
    logitBytes: 2 * activationBytes * vocab,
    // A layer: qkv, output, gate and up, down; attention; two norms and the append. A step: embedding, head with its
    // gather and norm, sampling.
    launches: [4 * layers + 1, layers, layers, 3 * layers + 4],
  };
}

/** Bytes of weights that a step reads: the layers' once for all its rows, the head's once for each pass of logits. */
export function weightBytesRead(load: StepLoad, { layerBytes, headBytes }: ModelWork): number {
  return (load.rows === 0 ? 0 : layerBytes) + Math.ceil(load.logitRows / logitRowsPerPass) * headBytes;
}
