import {
  compact,
  type Matrix,
  matrix,
  multiply,
  solveSymmetric,
  stack,
  transposed,
} from '../../engine/convert/index.js';
import { clusters, meanRow, nonNegativeWeights, pickRows } from './fits.js';

/** What stands in for the tokens of a page, of one KV head: some keys, each with a bias on its scores and a value. */
export interface PageSummary {
  /** [count, headDim] */
  readonly keys: Matrix;
  /** Nats. */
  readonly biases: Float64Array;
  /** [count, headDim] */
  readonly values: Matrix;
}

/** Keys and values of a page's tokens [tokens, headDim], and queries [rows, headDim], turned and scaled as they meet these keys. */
export interface Page {
  readonly keys: Matrix;
  readonly values: Matrix;
  readonly queries: Matrix;
}

export type Summarize = (page: Page) => PageSummary;

/** One pair: mean key, mean value, and the logarithm of the count. */
export function blockMean({ keys, values }: Page): PageSummary {
  return {
    keys: meanRow(keys),
    biases: Float64Array.of(Math.log(keys.rows)),
    values: meanRow(values),
  };
}

/** k-means over the keys; a centroid has the mean of its tokens' values, and the logarithm of their count. */
export function centroids(count: number): Summarize {
  return ({ keys, values }) => {
    const members = clusters(keys, count);
    const means = (of: Matrix) => stack(members.map((rows) => meanRow(pickRows(of, rows))));
    return {
      keys: means(keys),
      biases: Float64Array.from(members, (rows) => Math.log(rows.length)),
      values: means(values),
    };
  };
}

/**
 * Attention matching (Fast KV Compaction, arXiv 2602.16284, section 3): of the page's own keys some, chosen greedily; biases
 * such that the attention mass that the queries give the page is kept (non-negative least squares on exp(bias)); values such
 * that its output is (least squares).
 */
export function attentionMatching(count: number): Summarize {
  return ({ keys, values, queries }) => {
    const scores = multiply(queries, transposed(keys));
    const shares = matrix(scores.rows, scores.cols);
    for (let row = 0; row < scores.rows; row++) {
      const line = scores.data.subarray(row * scores.cols, (row + 1) * scores.cols);
      const most = line.reduce((a, b) => Math.max(a, b));
      const weights = line.map((score) => Math.exp(score - most));
      const sum = weights.reduce((a, b) => a + b);
      for (const [col, weight] of weights.entries()) shares.data[row * shares.cols + col] = weight / sum;
    }
    // Of each row the page has the mass 1: the chosen keys shall have it among them.
    const { chosen, weights } = chooseKeys(shares, count);
    const features = pickColumns(shares, chosen);
    for (let at = 0; at < features.data.length; at++) features.data[at]! *= weights[at % features.cols]!;
    return {
      keys: pickRows(keys, chosen),
      biases: weights.map(Math.log),
      values: ridge(features, multiply(shares, values), meanRow(values)),
    };
  };
}

function pickColumns(m: Matrix, cols: readonly number[]): Matrix {
  return compact(transposed(pickRows(compact(transposed(m)), cols)));
}

/** Least of weights that a chosen key keeps. */
const leastWeight = 1e-6;

function chooseKeys(shares: Matrix, count: number): { chosen: number[]; weights: Float64Array } {
  const gram = multiply(transposed(shares), shares);
  const mass = meanRow(shares).data.map((mean) => mean * shares.rows);
  const chosen: number[] = [];
  let weights: Float64Array = new Float64Array();
  while (chosen.length < count) {
    const gain = (col: number): number => {
      if (chosen.includes(col)) return Number.NEGATIVE_INFINITY;
      const explained = chosen.reduce(
        (sum, key, at) => sum + gram.data[col * gram.cols + key]! * weights[at]!,
        0,
      );
      return (mass[col]! - explained) / Math.sqrt(gram.data[col * gram.cols + col]! + 1e-12);
    };
    const gains = Array.from({ length: shares.cols }, (_, col) => gain(col));
    chosen.push(gains.indexOf(Math.max(...gains)));
    weights = nonNegativeWeights(
      pickColumns(pickRows(gram, chosen), chosen),
      Float64Array.from(chosen, (key) => mass[key]!),
    ).map((weight) => Math.max(weight, leastWeight));
  }
  return { chosen, weights };
}

/** x of |a x - b|^2 + small |x - prior|^2 at its least; prior [1, columns of b] stands for each row of x. */
function ridge(a: Matrix, b: Matrix, prior: Matrix): Matrix {
  const normal = multiply(transposed(a), a);
  const right = multiply(transposed(a), b);
  let trace = 0;
  for (let at = 0; at < normal.rows; at++) trace += normal.data[at * (normal.cols + 1)]!;
  const small = (1e-3 * trace) / normal.rows;
  for (let row = 0; row < normal.rows; row++) {
    normal.data[row * (normal.cols + 1)]! += small;
    for (let col = 0; col < right.cols; col++)
      right.data[row * right.cols + col]! += small * prior.data[col]!;
  }
  return solveSymmetric(normal, right);
}
