import { type AttentionShape, softmaxRows } from './attention.js';
import type { KeyMerge } from './key-merge.js';
import { eigenSymmetric } from './linear-algebra.js';
import { colBlock, compact, type Matrix, matrix, multiply, rowBlock, scale, transposed } from './matrix.js';
import type { Rotation } from './rotation.js';

/** What of a window of text the fit looks at: some rows of attention, and all that they may see. */
export interface AttentionSample {
  /** Positions of the rows, ascending. */
  readonly rows: Float64Array;
  /** Of the converted stream with the layer's own weights, before RoPE: [rows, heads * headDim]. */
  readonly queries: Matrix;
  /** [tokens, heads * headDim] */
  readonly keys: Matrix;
  /** For each head the original's probabilities, [rows, tokens]. */
  readonly target: readonly Float32Array[];
}

export interface FitOptions {
  readonly steps: number;
  /** After each step, from 0 to 1. */
  readonly onProgress: (done: number) => void;
}

/** Adam (Kingma and Ba 2015); a step moves an output by about this part of its size at first. */
const learningRate = 0.01;
const momentum = 0.9;
const spread = 0.99;

/**
 * Mean KL divergence of the merged heads' attention from the original's, in nats for a row and head. `merges` are of
 * all heads of a layer.
 */
export function attentionDivergence(
  merges: readonly KeyMerge[],
  samples: readonly AttentionSample[],
  shape: AttentionShape,
  rotation: Rotation,
): number {
  let sum = 0;
  let count = 0;
  for (const sample of samples) {
    for (const merge of merges) {
      const keys = sharedKeys(merge, sample, shape, rotation);
      for (const [index, head] of merge.heads.entries()) {
        const query = headQuery(merge, index, sample, shape, rotation);
        const probabilities = multiply(query, transposed(keys));
        softmaxRows(probabilities, sample.rows, shape);
        sum += divergence(sample.target[head]!, probabilities.data);
        count += sample.rows.length;
      }
    }
  }
  return sum / count;
}

/**
 * Improves a merge by gradient descent on the divergence of attention. The maps need no longer commute with RoPE: at
 * low frequencies, and where channels are idle, there is more to gain than `mergeKeys` can see.
 */
export function fitKeys(
  merge: KeyMerge,
  samples: readonly AttentionSample[],
  shape: AttentionShape,
  rotation: Rotation,
  { steps, onProgress }: FitOptions,
): KeyMerge {
  const { heads } = merge;
  const { headDim } = shape;
  const width = heads.length * headDim;
  const groupKeys = samples.map(({ keys }) => headsOf(keys, heads, headDim));
  const keyMap = new WhitenedMap(merge.key, groupKeys);
  const queryMaps = heads.map(
    (head, index) =>
      new WhitenedMap(
        merge.queries[index]!,
        samples.map(({ queries }) => colBlock(queries, head * headDim, headDim)),
      ),
  );
  const factor = 1 / Math.sqrt(headDim);
  for (let step = 0; step < steps; step += 1) {
    const at = step % samples.length;
    const sample = samples[at]!;
    const tokens = Float64Array.from({ length: sample.keys.rows }, (_, position) => position);
    const current: KeyMerge = { heads, key: keyMap.value, queries: queryMaps.map(({ value }) => value) };
    const keys = multiply(groupKeys[at]!, transposed(current.key));
    rotation.turn(keys, tokens);
    const keyGradient = matrix(keys.rows, headDim);
    const rate = learningRate * 0.5 * (1 + Math.cos((Math.PI * step) / steps));
    for (const [index, head] of heads.entries()) {
      const query = headQuery(current, index, sample, shape, rotation);
      const gradient = multiply(query, transposed(keys));
      softmaxRows(gradient, sample.rows, shape);
      // Of the divergence with respect to the logits: what the probabilities are too large by.
      const target = sample.target[head]!;
      const each = factor / (sample.rows.length * heads.length);
      for (let i = 0; i < target.length; i += 1) gradient.data[i] = (gradient.data[i]! - target[i]!) * each;
      const queryGradient = multiply(gradient, keys);
      multiply(transposed(gradient), query, { into: keyGradient, add: true });
      rotation.turnBack(queryGradient, sample.rows);
      queryMaps[index]!.descend(
        multiply(transposed(queryGradient), colBlock(sample.queries, head * headDim, headDim)),
        rate,
      );
    }
    rotation.turnBack(keyGradient, tokens);
    keyMap.descend(multiply(transposed(keyGradient), rowBlock(groupKeys[at]!, 0, keyGradient.rows)), rate);
    onProgress((step + 1) / steps);
  }
  if (keyMap.value.cols !== width) throw new RangeError('a merge of other heads than its own');
  return { heads, key: keyMap.value, queries: queryMaps.map(({ value }) => value) };
}

/**
 * A linear map that Adam improves as if its inputs were uncorrelated and of size 1, which they are not: so that small
 * but telling directions learn as fast as large ones.
 */
class WhitenedMap {
  value: Matrix;
  readonly #whitening: Matrix;
  readonly #size: number;
  readonly #mean: Float64Array;
  readonly #square: Float64Array;
  #steps = 0;

  constructor(start: Matrix, inputs: readonly Matrix[]) {
    this.value = compact(start);
    const moments = matrix(start.cols, start.cols);
    let count = 0;
    for (const input of inputs) {
      multiply(transposed(input), input, { into: moments, add: true });
      count += input.rows;
    }
    const covariance = scale(moments, 1 / count);
    const { values, vectors } = eigenSymmetric(covariance);
    // Directions of almost no energy would be blown up.
    const least = values.at(-1)! * 1e-6;
    this.#whitening = compact(vectors);
    for (let row = 0; row < start.cols; row += 1) {
      for (let col = 0; col < start.cols; col += 1) {
        this.#whitening.data[row * start.cols + col]! /= Math.sqrt(Math.max(values[col]!, least));
      }
    }
    const energy = multiply(multiply(start, covariance), transposed(start));
    let sum = 0;
    for (let at = 0; at < energy.rows; at += 1) sum += energy.data[at * (energy.cols + 1)]!;
    this.#size = Math.sqrt(sum / energy.rows);
    this.#mean = new Float64Array(start.data.length);
    this.#square = new Float64Array(start.data.length);
  }

  /** One step against the gradient with respect to the map. */
  descend(gradient: Matrix, rate: number): void {
    const inner = multiply(gradient, this.#whitening);
    this.#steps += 1;
    const meanFactor = 1 / (1 - momentum ** this.#steps);
    const squareFactor = 1 / (1 - spread ** this.#steps);
    // A step of all inputs together moves an output by `rate` of its size.
    const length = (rate * this.#size) / Math.sqrt(inner.cols);
    for (let at = 0; at < inner.data.length; at += 1) {
      const slope = inner.data[at]!;
      this.#mean[at] = momentum * this.#mean[at]! + (1 - momentum) * slope;
      this.#square[at] = spread * this.#square[at]! + (1 - spread) * slope * slope;
      const deviation = Math.sqrt(this.#square[at]! * squareFactor);
      inner.data[at] = deviation > 0 ? (-length * this.#mean[at]! * meanFactor) / deviation : 0;
    }
    const changed = compact(this.value);
    this.value = multiply(inner, transposed(this.#whitening), { into: changed, add: true });
  }
}

function sharedKeys(merge: KeyMerge, sample: AttentionSample, shape: AttentionShape, rotation: Rotation) {
  const keys = multiply(headsOf(sample.keys, merge.heads, shape.headDim), transposed(merge.key));
  rotation.turn(
    keys,
    Float64Array.from({ length: keys.rows }, (_, position) => position),
  );
  return keys;
}

function headQuery(
  merge: KeyMerge,
  index: number,
  { queries, rows }: AttentionSample,
  { headDim }: AttentionShape,
  rotation: Rotation,
): Matrix {
  const query = multiply(
    colBlock(queries, merge.heads[index]! * headDim, headDim),
    transposed(merge.queries[index]!),
  );
  rotation.turn(query, rows);
  return query;
}

/** The columns of these heads, beside each other. */
function headsOf(m: Matrix, heads: readonly number[], headDim: number): Matrix {
  const out = matrix(m.rows, heads.length * headDim);
  for (const [index, head] of heads.entries()) {
    for (let row = 0; row < m.rows; row += 1) {
      const from = row * m.rowStride + head * headDim;
      out.data.set(m.data.subarray(from, from + headDim), row * out.cols + index * headDim);
    }
  }
  return out;
}

/** Sum of p ln(p / q). */
function divergence(p: Float32Array, q: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < p.length; at += 1) {
    const probability = p[at]!;
    if (probability > 0) sum += probability * Math.log(probability / Math.max(q[at]!, 1e-30));
  }
  return sum;
}
