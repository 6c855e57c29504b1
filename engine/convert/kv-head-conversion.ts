import type { ModelSpec } from '../model/model-spec.js';
import { attend } from './attention.js';
import { type AttentionWeights, attentionName, readAttention, splitBias } from './attention-weights.js';
import { convertLayer, type LayerReport, type LayerWindow, type MergePlan } from './convert-layer.js';
import { addFeedForward, addProjection, attentionInputs, readFeedForward } from './hidden-states.js';
import { compact, type Matrix, matrix, subtract } from './matrix.js';
import { Rotation } from './rotation.js';
import { decode, encode } from './tensor-values.js';
import type { WeightReader } from './weight-reader.js';

/** The hidden states of the same windows in the model as it was and in the converted one. */
export interface HiddenStates {
  readonly original: readonly Matrix[];
  readonly converted: readonly Matrix[];
}

export interface ConvertedTensor {
  readonly name: string;
  readonly matrix: Matrix;
}

/** Of `count` windows as many as are kept from the fits, to choose and to report by: the last ones. */
export function heldOutWindows(count: number): number {
  return Math.max(1, Math.floor(count / 4));
}

/** What the windows are before the first layer. */
export function embed(windows: readonly Int32Array[], reader: WeightReader): HiddenStates {
  const rows = (window: Int32Array) => {
    const parts = Array.from(window, (token) => reader.rowRange('model.embed_tokens.weight', token, 1));
    const out = matrix(window.length, parts[0]!.cols);
    for (const [row, part] of parts.entries()) out.data.set(part.data, row * out.cols);
    return out;
  };
  const original = windows.map(rows);
  return { original, converted: original.map(compact) };
}

/** Converts one layer, and takes the hidden states, in place, to the next. */
export function convertNextLayer(
  { original, converted }: HiddenStates,
  layer: number,
  context: {
    readonly spec: ModelSpec;
    readonly reader: WeightReader;
    readonly plan: MergePlan;
    readonly onProgress: (done: number) => void;
  },
): { tensors: ConvertedTensor[]; report: LayerReport } {
  const { spec, reader, plan } = context;
  const weights = readAttention(reader, spec, layer);
  const gain = reader.matrix(`model.layers.${layer}.input_layernorm.weight`);
  const rotation = new Rotation(spec.rope, Math.max(...original.map(({ rows }) => rows)));
  const shape = { heads: spec.heads, headDim: spec.headDim, window: spec.slidingWindow[layer]! };
  const windows = original.map((x, index): LayerWindow => {
    const inputs = attentionInputs(x, gain, spec);
    const drift = compact(x);
    subtract(drift, converted[index]!);
    return {
      original: inputs,
      originalFeatures: attend(inputs, weights, shape, rotation),
      converted: attentionInputs(converted[index]!, gain, spec),
      drift,
    };
  });
  const heldOut = heldOutWindows(windows.length);
  const { dtype } = reader.entry(attentionName(layer, 'q', 'weight'));
  const found = convertLayer({
    spec,
    plan,
    shape,
    rotation,
    weights,
    training: windows.slice(0, -heldOut),
    heldOut: windows.slice(-heldOut),
    rounded: (m) => ({ ...compact(m), data: decode(encode(compact(m).data, dtype), dtype) }),
    onProgress: context.onProgress,
  });
  const bias = spec.outputBias ? reader.matrix(attentionName(layer, 'o', 'bias')) : undefined;
  const feedForward = readFeedForward(reader, spec, layer);
  for (const [index, window] of windows.entries()) {
    const [x, y] = [original[index]!, converted[index]!];
    addProjection(x, window.originalFeatures, weights.o, bias);
    addProjection(y, attend(window.converted, found.weights, shape, rotation), found.weights.o, bias);
    addFeedForward(x, feedForward, spec);
    addFeedForward(y, feedForward, spec);
  }
  return { tensors: tensorsOf(found.weights, spec, layer), report: found.report };
}

function tensorsOf(weights: AttentionWeights, spec: ModelSpec, layer: number): ConvertedTensor[] {
  const projections = (['q', 'k', 'v'] as const).flatMap((name) => {
    const { weight, bias } = splitBias(weights[name], spec);
    return [
      { name: attentionName(layer, name, 'weight'), matrix: weight },
      ...(bias ? [{ name: attentionName(layer, name, 'bias'), matrix: bias }] : []),
    ];
  });
  return [...projections, { name: attentionName(layer, 'o', 'weight'), matrix: weights.o }];
}
