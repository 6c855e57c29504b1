import type { ModelSpec } from '../model/model-spec.js';
import { type AttentionShape, attend, softmaxRows } from './attention.js';
import type { AttentionWeights } from './attention-weights.js';
import { groupsByIndex, groupsBySimilarity } from './head-groups.js';
import { type AttentionSample, attentionDivergence, fitKeys } from './key-fit.js';
import { type KeyMerge, type KeyMoments, keyLoss, mergeKeys } from './key-merge.js';
import {
  colBlock,
  copyInto,
  identity,
  type Matrix,
  matrix,
  multiply,
  rowBlock,
  scale,
  stack,
  transposed,
} from './matrix.js';
import { fitOutput, type OutputSample, outputError } from './output-fit.js';
import type { Rotation } from './rotation.js';
import { mergeValues, type ValueMerge, valueLoss } from './value-merge.js';

/**
 * `mean`: a group's keys and values are averaged, nothing else changes. `svd`: best bases in closed form. `fit`: these,
 * improved on the calibration text wherever text that the fit has not seen confirms it.
 */
export const mergeMethods = ['fit', 'svd', 'mean'] as const;
export type MergeMethod = (typeof mergeMethods)[number];

export const groupings = ['similar', 'index'] as const;
export type Grouping = (typeof groupings)[number];

export interface MergePlan {
  readonly kvHeads: number;
  readonly method: MergeMethod;
  readonly groups: Grouping;
}

/** One window of text at a layer. */
export interface LayerWindow {
  /** What the layer's attention gets in the model as it was, [tokens, inputs], and what its heads make of it. */
  readonly original: Matrix;
  readonly originalFeatures: Matrix;
  /** The same input in the model whose earlier layers are converted. */
  readonly converted: Matrix;
  /** Hidden states of the original less those of the converted model: what went wrong before this layer. */
  readonly drift: Matrix;
}

export interface LayerTask {
  readonly spec: ModelSpec;
  readonly plan: MergePlan;
  readonly shape: AttentionShape;
  readonly rotation: Rotation;
  readonly weights: AttentionWeights;
  readonly training: readonly LayerWindow[];
  /** Text that no fit sees: what is chosen and reported is measured here. */
  readonly heldOut: readonly LayerWindow[];
  /** To what the checkpoint can hold. */
  readonly rounded: (weights: Matrix) => Matrix;
  readonly onProgress: (done: number) => void;
}

/** What converting a layer did to it, measured on held-out text. */
export interface LayerReport {
  readonly groups: readonly (readonly number[])[];
  /** Whose keys were taken for each group. */
  readonly keys: readonly MergeMethod[];
  /** KL divergence of attention from the original's, millinats for a row and head: by method, and of what was taken. */
  readonly attention: { readonly [method in MergeMethod | 'taken']?: number };
  /** Part of the energy of the heads' values, as the projection o weighs it, that the shared ones cannot say. */
  readonly valueLoss: number;
  /** Part of the energy of attention's output that is wrong, before and after the fit of the projection o. */
  readonly outputError: number;
  readonly fittedOutputError?: number;
}

const sampledRows = 128;
const fitSteps = 150;
/** A fit is taken if it leaves at most this part of the error: less is noise. */
const worthwhile = 0.98;

export function convertLayer(task: LayerTask): { weights: AttentionWeights; report: LayerReport } {
  const { spec, plan, weights } = task;
  const { headDim } = spec;
  const moments = measureMoments(task);
  const keyMoments: KeyMoments = { queries: moments.q, keys: moments.k, headDim };
  const groups =
    plan.groups === 'index' || plan.method === 'mean'
      ? groupsByIndex(spec.heads, plan.kvHeads)
      : groupsBySimilarity(spec.heads, plan.kvHeads, (heads) => keyLoss(heads, keyMoments));
  const keys = chooseKeys(task, groups, keyMoments);
  const values = groups.map((heads) =>
    plan.method === 'mean'
      ? meanValues(heads, headDim)
      : mergeValues(heads, { values: moments.v, o: weights.o, headDim }),
  );
  const merged = mergedWeights(task, keys.merges, values);
  const { o, ...errors } = chooseOutput(task, merged);
  return {
    weights: { ...merged, o },
    report: {
      groups,
      keys: keys.methods,
      attention: keys.divergences,
      valueLoss: valueLoss(values, { values: moments.v, o: weights.o, headDim }),
      ...errors,
    },
  };
}

interface Moments {
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
}

function measureMoments({ weights, training }: LayerTask): Moments {
  const tokens = training.reduce((sum, { converted }) => sum + converted.rows, 0);
  const inputs = weights.q.cols;
  const moments = matrix(inputs, inputs);
  for (const { converted } of training) {
    multiply(transposed(converted), converted, { into: moments, add: true });
  }
  // Of w x: w E[x x'] w'.
  const of = (w: Matrix) => scale(multiply(multiply(w, moments), transposed(w)), 1 / tokens);
  return { q: of(weights.q), k: of(weights.k), v: of(weights.v) };
}

function chooseKeys(task: LayerTask, groups: readonly (readonly number[])[], moments: KeyMoments) {
  const { plan, shape, rotation } = task;
  const heldOut = task.heldOut.map((window) => sampleAttention(task, window));
  const divergence = (merge: KeyMerge) => attentionDivergence([merge], heldOut, shape, rotation);
  const inMillinats = (values: readonly number[]) =>
    (1000 * values.reduce((sum, value) => sum + value, 0)) / values.length;
  if (plan.method === 'mean') {
    const merges = groups.map((heads) => meanKeys(heads, shape.headDim));
    const taken = inMillinats(merges.map(divergence));
    return { merges, methods: groups.map(() => 'mean' as const), divergences: { mean: taken, taken } };
  }
  const closed = groups.map((heads) => mergeKeys(heads, moments));
  const closedErrors = closed.map(divergence);
  const svd = inMillinats(closedErrors);
  if (plan.method === 'svd') {
    return { merges: closed, methods: groups.map(() => 'svd' as const), divergences: { svd, taken: svd } };
  }
  const training = task.training.map((window) => sampleAttention(task, window));
  const fitted = closed.map((merge, group) =>
    fitKeys(merge, training, shape, rotation, {
      steps: fitSteps,
      onProgress: (done) => task.onProgress((group + done) / groups.length),
    }),
  );
  const fittedErrors = fitted.map(divergence);
  const better = fittedErrors.map((error, group) => error < worthwhile * closedErrors[group]!);
  return {
    merges: better.map((yes, group) => (yes ? fitted : closed)[group]!),
    methods: better.map((yes) => (yes ? ('fit' as const) : ('svd' as const))),
    divergences: {
      svd,
      fit: inMillinats(fittedErrors),
      taken: inMillinats(better.map((yes, group) => (yes ? fittedErrors : closedErrors)[group]!)),
    },
  };
}

/** Rows that are spread over the window, with the attention that the original pays there. */
function sampleAttention(
  { spec, shape, rotation, weights }: LayerTask,
  window: LayerWindow,
): AttentionSample {
  const tokens = window.converted.rows;
  const count = Math.min(sampledRows, tokens);
  const rows = Float64Array.from(
    { length: count },
    (_, index) => Math.ceil(((index + 1) * tokens) / count) - 1,
  );
  const picked = (m: Matrix) => stack(Array.from(rows, (row) => rowBlock(m, row, 1)));
  const queries = multiply(picked(window.original), transposed(weights.q));
  const keys = multiply(window.original, transposed(weights.k));
  rotation.turn(queries, rows);
  rotation.turn(
    keys,
    Float64Array.from({ length: tokens }, (_, position) => position),
  );
  const target = Array.from({ length: spec.heads }, (_, head) => {
    const at = head * spec.headDim;
    const scores = multiply(
      colBlock(queries, at, spec.headDim),
      transposed(colBlock(keys, at, spec.headDim)),
    );
    softmaxRows(scores, rows, shape);
    return Float32Array.from(scores.data);
  });
  return {
    rows,
    queries: multiply(picked(window.converted), transposed(weights.q)),
    keys: multiply(window.converted, transposed(weights.k)),
    target,
  };
}

/** Heads in the order of their groups, as grouped-query attention wants them. */
function mergedWeights(
  { spec, weights, rounded }: LayerTask,
  keys: readonly KeyMerge[],
  values: readonly ValueMerge[],
): AttentionWeights {
  const { headDim } = spec;
  const ofHead = (w: Matrix, head: number) => rowBlock(w, head * headDim, headDim);
  const ofHeads = (w: Matrix, heads: readonly number[]) => stack(heads.map((head) => ofHead(w, head)));
  const o = matrix(spec.hidden, spec.heads * headDim);
  let place = 0;
  for (const { heads, outputs } of values) {
    for (const [index, head] of heads.entries()) {
      const projection = multiply(colBlock(weights.o, head * headDim, headDim), outputs[index]!);
      copyInto(colBlock(o, place, headDim), projection);
      place += headDim;
    }
  }
  return {
    q: rounded(
      stack(
        keys.flatMap(({ heads, queries }) =>
          heads.map((head, index) => multiply(queries[index]!, ofHead(weights.q, head))),
        ),
      ),
    ),
    k: rounded(stack(keys.map(({ heads, key }) => multiply(key, ofHeads(weights.k, heads))))),
    v: rounded(stack(values.map(({ heads, value }) => multiply(value, ofHeads(weights.v, heads))))),
    o,
  };
}

/** The projection o, fitted where that helps on held-out text. */
function chooseOutput(
  task: LayerTask,
  merged: AttentionWeights,
): { o: Matrix; outputError: number; fittedOutputError?: number } {
  const { weights, plan, rounded } = task;
  const sample = (window: LayerWindow): OutputSample => {
    const target = multiply(window.originalFeatures, transposed(weights.o));
    for (let at = 0; at < target.data.length; at += 1) target.data[at]! += window.drift.data[at]!;
    return { features: attend(window.converted, merged, task.shape, task.rotation), target };
  };
  const heldOut = task.heldOut.map(sample);
  const o = rounded(merged.o);
  const before = outputError(o, heldOut);
  if (plan.method !== 'fit') return { o, outputError: before };
  const fitted = rounded(fitOutput(o, task.training.map(sample)));
  const after = outputError(fitted, heldOut);
  if (after >= worthwhile * before) return { o, outputError: before };
  return { o: fitted, outputError: before, fittedOutputError: after };
}

function meanKeys(heads: readonly number[], headDim: number): KeyMerge {
  return { heads, key: mean(heads.length, headDim), queries: heads.map(() => identity(headDim)) };
}

function meanValues(heads: readonly number[], headDim: number): ValueMerge {
  return { heads, value: mean(heads.length, headDim), outputs: heads.map(() => identity(headDim)) };
}

function mean(heads: number, headDim: number): Matrix {
  const one = scale(identity(headDim), 1 / heads);
  const out = matrix(headDim, heads * headDim);
  for (let head = 0; head < heads; head += 1) copyInto(colBlock(out, head * headDim, headDim), one);
  return out;
}
