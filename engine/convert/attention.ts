import type { ModelSpec } from '../model/model-spec.js';
import type { AttentionWeights } from './attention-weights.js';
import { colBlock, type Matrix, matrix, multiply, rowBlock, transposed } from './matrix.js';
import type { Rotation } from './rotation.js';

/** Rows of scores at a time: a window of 2048 tokens would take 32 MB a head. */
const scoreRows = 256;

export type AttentionShape = Pick<ModelSpec, 'heads' | 'headDim'> & {
  /** Latest tokens that one may attend to, itself included; 0: all. */
  readonly window: number;
};

/** What the heads read of a window: values weighted by attention [tokens, heads * headDim], before the projection o. */
export function attend(
  inputs: Matrix,
  weights: AttentionWeights,
  shape: AttentionShape,
  rotation: Rotation,
): Matrix {
  const { heads, headDim } = shape;
  const project = (w: Matrix) => multiply(inputs, transposed(w));
  const [q, k, v] = [project(weights.q), project(weights.k), project(weights.v)];
  const positions = Float64Array.from({ length: inputs.rows }, (_, at) => at);
  rotation.turn(q, positions);
  rotation.turn(k, positions);
  const group = (heads * headDim) / k.cols;
  const out = matrix(inputs.rows, heads * headDim);
  for (let head = 0; head < heads; head += 1) {
    const kvHead = Math.floor(head / group) * headDim;
    for (let begin = 0; begin < inputs.rows; begin += scoreRows) {
      const count = Math.min(scoreRows, inputs.rows - begin);
      const seen = begin + count;
      const scores = multiply(
        rowBlock(colBlock(q, head * headDim, headDim), begin, count),
        transposed(rowBlock(colBlock(k, kvHead, headDim), 0, seen)),
      );
      softmaxRows(scores, positions.subarray(begin, seen), shape);
      multiply(scores, rowBlock(colBlock(v, kvHead, headDim), 0, seen), {
        into: rowBlock(colBlock(out, head * headDim, headDim), begin, count),
      });
    }
  }
  return out;
}

/** Scores q k [rows, keys] to probabilities, in place. `positions` of the rows; a key's is its column. */
export function softmaxRows(
  scores: Matrix,
  positions: ArrayLike<number>,
  { headDim, window }: AttentionShape,
): void {
  const factor = 1 / Math.sqrt(headDim);
  for (let row = 0; row < scores.rows; row += 1) {
    const line = scores.data.subarray(row * scores.rowStride, row * scores.rowStride + scores.cols);
    const end = Math.min(positions[row]! + 1, scores.cols);
    const begin = window > 0 ? Math.max(0, end - window) : 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let key = begin; key < end; key += 1) most = Math.max(most, line[key]!);
    let sum = 0;
    for (let key = begin; key < end; key += 1) {
      const weight = Math.exp((line[key]! - most) * factor);
      line[key] = weight;
      sum += weight;
    }
    line.fill(0, 0, begin);
    for (let key = begin; key < end; key += 1) line[key]! /= sum;
    line.fill(0, end);
  }
}
