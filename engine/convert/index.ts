/** The public face of what reads a model's weights and rewrites them, and of the arithmetic that takes. */
export { attend } from './attention.js';
export { type AttentionWeights, attentionName, readAttention } from './attention-weights.js';
export {
  convertKvHeads,
  type KvHeadReport,
  keptKvHeads,
} from './convert-kv-heads.js';
export { type Grouping, groupings, type MergeMethod, mergeMethods } from './convert-layer.js';
export { addFeedForward, addProjection, attentionInputs, readFeedForward } from './hidden-states.js';
export { embed } from './kv-head-conversion.js';
export { solveSymmetric } from './linear-algebra.js';
export {
  colBlock,
  compact,
  copyInto,
  type Matrix,
  matrix,
  multiply,
  rowBlock,
  stack,
  subtract,
  sumOfSquares,
  transposed,
} from './matrix.js';
export { Rotation } from './rotation.js';
export { perplexity } from './text-perplexity.js';
export { WeightReader } from './weight-reader.js';
