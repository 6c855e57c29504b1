import { eigenSymmetric } from './linear-algebra.js';
import { type Matrix, matrix } from './matrix.js';

/** How a group of heads shares one key: all before RoPE. */
export interface KeyMerge {
  readonly heads: readonly number[];
  /** The shared key from the group's keys below each other: [headDim, heads * headDim]. */
  readonly key: Matrix;
  /** For each head, its query from what it was: [headDim, headDim]. */
  readonly queries: readonly Matrix[];
}

/** Second moments of a layer's queries and keys, before RoPE: [heads * headDim, heads * headDim]. */
export interface KeyMoments {
  readonly queries: Matrix;
  readonly keys: Matrix;
  readonly headDim: number;
}

/**
 * Merges keys within each frequency of RoPE, which commutes with it. The pair of channels that turns together is a
 * complex number, and only multiplication by a complex number can be exchanged with turning. So of each frequency the
 * heads' keys, weighted by how large the queries are that meet them, are replaced by their first principal component
 * times a complex number for each head, which the head's query takes over. Exact where the keys are multiples of one.
 */
export function mergeKeys(heads: readonly number[], moments: KeyMoments): KeyMerge {
  const { headDim } = moments;
  const pairs = headDim / 2;
  const key = matrix(headDim, heads.length * headDim);
  const queries = heads.map(() => matrix(headDim, headDim));
  for (let pair = 0; pair < pairs; pair += 1) {
    const weights = heads.map((head) => queryWeight(moments, head, pair));
    const { vectors } = eigenSymmetric(pairMoments(moments, heads, pair));
    const last = vectors.cols - 1;
    const at = (row: number) => vectors.data[row * vectors.cols + last]!;
    const component = heads.map((_, index) => ({ re: at(index), im: at(heads.length + index) }));
    // Scaled so that queries keep their size.
    const shares = component.map(({ re, im }, index) => Math.hypot(re, im) / weights[index]!);
    const size = Math.sqrt(shares.reduce((sum, share) => sum + share * share, 0) / shares.length);
    for (const [index, { re, im }] of component.entries()) {
      const weight = weights[index]!;
      // The key is the sum of conj(u) w k, which stands for u / w of it; q conj(k) = (q conj(u / w)) conj(key).
      setPair(key, pair, index * headDim, re * weight * size, -im * weight * size);
      setPair(queries[index]!, pair, 0, re / weight / size, -im / weight / size);
    }
  }
  return { heads, key, queries };
}

/** The part of the logits' second moment that `mergeKeys` loses of a group: 0 where it is exact. */
export function keyLoss(heads: readonly number[], moments: KeyMoments): number {
  let lost = 0;
  for (let pair = 0; pair < moments.headDim / 2; pair += 1) {
    const { values } = eigenSymmetric(pairMoments(moments, heads, pair));
    // A complex matrix's values come twice in its real form.
    lost += (values.reduce((sum, value) => sum + value, 0) - 2 * values.at(-1)!) / 2;
  }
  return lost;
}

/** Root mean square of the queries of a frequency; never 0, since it divides. */
function queryWeight({ queries, headDim }: KeyMoments, head: number, pair: number): number {
  const [a, b] = channels(head, pair, headDim);
  const square = at(queries, a, a) + at(queries, b, b);
  return Math.sqrt(Math.max(square, 1e-24));
}

/**
 * The complex matrix of moments E[k conj(k')] of weighted keys of a frequency, as the real one of twice its size that
 * has the same eigenvectors (real parts above imaginary ones).
 */
function pairMoments(moments: KeyMoments, heads: readonly number[], pair: number): Matrix {
  const { keys, headDim } = moments;
  const count = heads.length;
  const out = matrix(2 * count, 2 * count);
  const weights = heads.map((head) => queryWeight(moments, head, pair));
  for (const [row, rowHead] of heads.entries()) {
    const [a, b] = channels(rowHead, pair, headDim);
    for (const [col, colHead] of heads.entries()) {
      const [c, d] = channels(colHead, pair, headDim);
      const weight = weights[row]! * weights[col]!;
      const re = (at(keys, a, c) + at(keys, b, d)) * weight;
      const im = (at(keys, b, c) - at(keys, a, d)) * weight;
      out.data[row * out.cols + col] = re;
      out.data[(count + row) * out.cols + count + col] = re;
      out.data[row * out.cols + count + col] = -im;
      out.data[(count + row) * out.cols + col] = im;
    }
  }
  return out;
}

/** Multiplication by re + i im of a pair of channels, written into a matrix whose rows are a head's channels. */
function setPair(m: Matrix, pair: number, firstCol: number, re: number, im: number): void {
  const half = m.rows / 2;
  m.data[pair * m.cols + firstCol + pair] = re;
  m.data[pair * m.cols + firstCol + half + pair] = -im;
  m.data[(half + pair) * m.cols + firstCol + pair] = im;
  m.data[(half + pair) * m.cols + firstCol + half + pair] = re;
}

/** Of a head's frequency: the channels that hold its real and its imaginary part. */
function channels(head: number, pair: number, headDim: number): [number, number] {
  return [head * headDim + pair, head * headDim + headDim / 2 + pair];
}

function at(m: Matrix, row: number, col: number): number {
  return m.data[row * m.cols + col]!;
}
