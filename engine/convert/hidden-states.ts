import type { ModelSpec } from '../model/model-spec.js';
import { type Matrix, matrix, multiply, rowBlock, transposed } from './matrix.js';
import type { WeightReader } from './weight-reader.js';

/** Rows of the feed-forward part at a time: its inner width is several times the hidden one. */
const ffnRows = 512;

/** x / rms(x) * gain of each row. */
export function rmsNorm(x: Matrix, gain: Matrix, eps: number): Matrix {
  const out = matrix(x.rows, x.cols);
  for (let row = 0; row < x.rows; row += 1) {
    const line = x.data.subarray(row * x.rowStride, row * x.rowStride + x.cols);
    let sum = 0;
    for (const value of line) sum += value * value;
    const factor = 1 / Math.sqrt(sum / x.cols + eps);
    for (let col = 0; col < x.cols; col += 1)
      out.data[row * x.cols + col] = line[col]! * factor * gain.data[col]!;
  }
  return out;
}

/** What a layer's attention gets: normed, with a 1 behind where biases are a column (see `AttentionWeights`). */
export function attentionInputs(x: Matrix, gain: Matrix, spec: ModelSpec): Matrix {
  const normed = rmsNorm(x, gain, spec.normEps);
  if (!spec.attentionBias) return normed;
  const out = matrix(x.rows, x.cols + 1);
  for (let row = 0; row < x.rows; row += 1) {
    out.data.set(normed.data.subarray(row * x.cols, (row + 1) * x.cols), row * out.cols);
    out.data[row * out.cols + x.cols] = 1;
  }
  return out;
}

/** Adds what a projection with an optional bias makes of `features` to the hidden states. */
export function addProjection(x: Matrix, features: Matrix, weight: Matrix, bias: Matrix | undefined): void {
  multiply(features, transposed(weight), { into: x, add: true });
  if (bias) addToRows(x, bias);
}

export interface FeedForward {
  readonly norm: Matrix;
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
  readonly gateBias: Matrix | undefined;
  readonly upBias: Matrix | undefined;
  readonly downBias: Matrix | undefined;
}

export function readFeedForward(reader: WeightReader, spec: ModelSpec, layer: number): FeedForward {
  const at = `model.layers.${layer}.`;
  const bias = (name: string) => (spec.mlpBias ? reader.matrix(`${at}mlp.${name}_proj.bias`) : undefined);
  return {
    norm: reader.matrix(`${at}post_attention_layernorm.weight`),
    gate: reader.matrix(`${at}mlp.gate_proj.weight`),
    up: reader.matrix(`${at}mlp.up_proj.weight`),
    down: reader.matrix(`${at}mlp.down_proj.weight`),
    gateBias: bias('gate'),
    upBias: bias('up'),
    downBias: bias('down'),
  };
}

/** Adds a layer's feed-forward part to the hidden states. */
export function addFeedForward(x: Matrix, ffn: FeedForward, spec: ModelSpec): void {
  for (let begin = 0; begin < x.rows; begin += ffnRows) {
    const rows = rowBlock(x, begin, Math.min(ffnRows, x.rows - begin));
    const normed = rmsNorm(rows, ffn.norm, spec.normEps);
    const gate = multiply(normed, transposed(ffn.gate));
    const up = multiply(normed, transposed(ffn.up));
    if (ffn.gateBias) addToRows(gate, ffn.gateBias);
    if (ffn.upBias) addToRows(up, ffn.upBias);
    for (let at = 0; at < gate.data.length; at += 1) {
      const value = gate.data[at]!;
      gate.data[at] = (value / (1 + Math.exp(-value))) * up.data[at]!;
    }
    addProjection(rows, gate, ffn.down, ffn.downBias);
  }
}

function addToRows(x: Matrix, bias: Matrix): void {
  for (let row = 0; row < x.rows; row += 1) {
    for (let col = 0; col < x.cols; col += 1) x.data[row * x.rowStride + col]! += bias.data[col]!;
  }
}
