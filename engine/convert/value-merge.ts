import { eigenSymmetric } from './linear-algebra.js';
import {
  colBlock,
  compact,
  identity,
  type Matrix,
  matrix,
  multiply,
  rowBlock,
  scale,
  transposed,
} from './matrix.js';

/** How a group of heads shares one value. */
export interface ValueMerge {
  readonly heads: readonly number[];
  /** The shared value from the group's values below each other: [headDim, heads * headDim]. */
  readonly value: Matrix;
  /** For each head, its value from the shared one: [headDim, headDim]; the projection o takes it over. */
  readonly outputs: readonly Matrix[];
}

export interface ValueMoments {
  /** Second moments of the layer's values: [heads * headDim, heads * headDim]. */
  readonly values: Matrix;
  /** The projection behind them: [hidden, heads * headDim]. */
  readonly o: Matrix;
  readonly headDim: number;
}

/** Of a group's values, the directions that are kept, as seen behind the projection o. */
export function mergeValues(heads: readonly number[], { values, o, headDim }: ValueMoments): ValueMerge {
  const size = heads.length * headDim;
  const moments = groupMoments(heads, values, headDim);
  // W = (o'o)^1/2 of each head: errors count as much as they change the layer's output.
  const weight = matrix(size, size);
  const inverse = matrix(size, size);
  for (const [index, head] of heads.entries()) {
    const projection = colBlock(o, head * headDim, headDim);
    const roots = squareRoots(multiply(transposed(projection), projection));
    place(weight, index * headDim, index * headDim, roots.root);
    place(inverse, index * headDim, index * headDim, roots.inverse);
  }
  const { vectors } = eigenSymmetric(multiply(multiply(weight, moments), weight));
  const kept = colBlock(vectors, size - headDim, headDim);
  const value = multiply(transposed(kept), weight);
  const back = multiply(inverse, kept);
  // Scaled so that the shared value is as large as the heads' own were.
  const before = trace(moments) / heads.length;
  const after = trace(multiply(multiply(value, moments), transposed(value)));
  const factor = after > 0 ? Math.sqrt(before / after) : 1;
  for (let at = 0; at < value.data.length; at += 1) value.data[at]! *= factor;
  for (let at = 0; at < back.data.length; at += 1) back.data[at]! /= factor;
  return {
    heads,
    value,
    outputs: heads.map((_, index) => compact(rowBlock(back, index * headDim, headDim))),
  };
}

/** The part of the energy of all heads' values, as `o` shows it, that the merges lose. */
export function valueLoss(merges: readonly ValueMerge[], { values, o, headDim }: ValueMoments): number {
  let lost = 0;
  let all = 0;
  for (const { heads, value, outputs } of merges) {
    const moments = groupMoments(heads, values, headDim);
    for (const [index, head] of heads.entries()) {
      const projection = colBlock(o, head * headDim, headDim);
      const own = matrix(headDim, heads.length * headDim);
      place(own, 0, index * headDim, identity(headDim));
      const missing = compact(own);
      multiply(scale(outputs[index]!, -1), value, { into: missing, add: true });
      lost += energy(multiply(projection, missing), moments);
      all += energy(multiply(projection, own), moments);
    }
  }
  return all > 0 ? lost / all : 0;
}

/** Of the group's values below each other. */
function groupMoments(heads: readonly number[], values: Matrix, headDim: number): Matrix {
  const moments = matrix(heads.length * headDim, heads.length * headDim);
  for (const [row, rowHead] of heads.entries()) {
    for (const [col, colHead] of heads.entries()) {
      const block = colBlock(rowBlock(values, rowHead * headDim, headDim), colHead * headDim, headDim);
      place(moments, row * headDim, col * headDim, compact(block));
    }
  }
  return moments;
}

/** The square root of a symmetric matrix and its inverse; directions of no weight stay out of both. */
function squareRoots(m: Matrix): { root: Matrix; inverse: Matrix } {
  const { values, vectors } = eigenSymmetric(m);
  const least = values.at(-1)! * 1e-14;
  const build = (of: (value: number) => number) => {
    const scaled = compact(vectors);
    for (let row = 0; row < m.rows; row += 1) {
      for (let col = 0; col < m.rows; col += 1) {
        const value = values[col]!;
        scaled.data[row * m.rows + col]! *= value > least ? of(value) : 0;
      }
    }
    return multiply(scaled, transposed(vectors));
  };
  return { root: build(Math.sqrt), inverse: build((value) => 1 / Math.sqrt(value)) };
}

function place(into: Matrix, row: number, col: number, block: Matrix): void {
  for (let r = 0; r < block.rows; r += 1) {
    for (let c = 0; c < block.cols; c += 1) {
      into.data[(row + r) * into.cols + col + c] = block.data[r * block.cols + c]!;
    }
  }
}

function trace(m: Matrix): number {
  let sum = 0;
  for (let at = 0; at < m.rows; at += 1) sum += m.data[at * (m.cols + 1)]!;
  return sum;
}

/** Trace of m C m'. */
function energy(m: Matrix, moments: Matrix): number {
  const product = multiply(m, moments);
  let sum = 0;
  for (let at = 0; at < product.data.length; at += 1) sum += product.data[at]! * m.data[at]!;
  return sum;
}
