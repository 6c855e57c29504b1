import type { ModelSpec } from '../model/model-spec.js';
import { beside, colBlock, type Matrix, transposed } from './matrix.js';
import type { WeightReader } from './weight-reader.js';

/**
 * A layer's projections. Where q, k and v have biases, these are one more column, and the layer's input one more 1:
 * what is then said of linear maps holds for them too.
 */
export interface AttentionWeights {
  /** Rows are heads beside each other: [heads * headDim, inputs]. */
  readonly q: Matrix;
  /** [kvHeads * headDim, inputs] */
  readonly k: Matrix;
  readonly v: Matrix;
  /** [hidden, heads * headDim] */
  readonly o: Matrix;
}

export function attentionName(
  layer: number,
  projection: 'q' | 'k' | 'v' | 'o',
  part: 'weight' | 'bias',
): string {
  return `model.layers.${layer}.self_attn.${projection}_proj.${part}`;
}

export function readAttention(reader: WeightReader, spec: ModelSpec, layer: number): AttentionWeights {
  const projection = (name: 'q' | 'k' | 'v') => {
    const weight = reader.matrix(attentionName(layer, name, 'weight'));
    if (!spec.attentionBias) return weight;
    return beside([weight, transposed(reader.matrix(attentionName(layer, name, 'bias')))]);
  };
  return {
    q: projection('q'),
    k: projection('k'),
    v: projection('v'),
    o: reader.matrix(attentionName(layer, 'o', 'weight')),
  };
}

/** The bias is no column any more. */
export function splitBias(weights: Matrix, spec: ModelSpec): { weight: Matrix; bias?: Matrix } {
  if (!spec.attentionBias) return { weight: weights };
  return {
    weight: colBlock(weights, 0, spec.hidden),
    bias: transposed(colBlock(weights, spec.hidden, 1)),
  };
}
