import { describe, expect, it } from 'vitest';
import { errorsOf, fitConstants, predictionErrors } from '../../../engine/calibration/fit.js';
import { loadOfShape, planMicroRuns } from '../../../engine/calibration/plan.js';
import { type LoadCounts, type Sample, splitSamples } from '../../../engine/calibration/sample.js';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import type { DeviceConstants } from '../../../engine/scheduler/device-constants.js';
import { modelWork } from '../../../engine/scheduler/model-work.js';
import { preset } from '../../../engine/scheduler/presets.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import type { StepLoad } from '../../../engine/scheduler/step-load.js';
import { tinySpec } from '../scheduler/cost-model-case.js';

const spec = {
  ...tinySpec,
  layers: 28,
  hidden: 2048,
  heads: 16,
  kvHeads: 2,
  headDim: 128,
  ffn: 11008,
  vocab: 151936,
};
const work = modelWork(spec, 'bf16');
const kvBytesPerToken = 2 * 28 * 2 * 128 * 2;

/** A device that is unlike the preset in all that matters. */
function truthOf(start: DeviceConstants): DeviceConstants {
  const { matmul, prefillAttention, decodeAttention, other } = start.operators;
  return {
    ...start,
    memory: {
      ...start.memory,
      bytesPerSecond: start.memory.bytesPerSecond * 0.6,
      saturation: 0.35,
      shared: 0.8,
    },
    operators: {
      matmul: { ...matmul, flopsPerSecond: matmul.flopsPerSecond * 0.5, saturation: 0.85 },
      prefillAttention: { ...prefillAttention, flopsPerSecond: prefillAttention.flopsPerSecond * 0.4 },
      decodeAttention: { ...decodeAttention, bandwidth: 0.5 },
      other: { ...other, flopsPerSecond: other.flopsPerSecond * 2 },
    },
  };
}

/** The plan's steps as a device with these constants would take them, with noise of a few percent. */
function synthetic(constants: DeviceConstants, noise: number, withClasses: boolean): Sample[] {
  const model = new CostModel(work, constants, constants.units);
  const plan = planMicroRuns({
    units: constants.units,
    splits: splitsOf(constants.units, constants.smallestGroup),
    maxStepTokens: 2048,
    maxSequences: 64,
    pageTokens: 32,
    contextLength: 32768,
    kvBytesPerToken,
    quick: false,
  });
  let state = 7;
  const random = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const counts = (load: StepLoad): LoadCounts => ({ ...load });
  const step = (
    load: StepLoad,
    units: number,
    other: { load: StepLoad; units: number } | null,
    heldOut = false,
  ): Sample => {
    const classes = new Float64Array(4);
    const factor = 1 + noise * (random() + random() + random() - 1.5);
    const seconds = model.byClass(load, units, other, classes) * factor;
    return {
      load: counts(load),
      units,
      other: other && { load: counts(other.load), units: other.units },
      seconds,
      heldOut,
      ...(withClasses && { opSeconds: [...classes].map((value) => value * factor) }),
    };
  };
  // Each beginning of the plan is spread over all that there is.
  return plan.slice(0, 120).flatMap((run) => {
    if (run.mode === 'alone')
      return [step(loadOfShape(run.shape, 1, kvBytesPerToken), run.units, null, run.heldOut)];
    const prefill = { load: loadOfShape(run.prefill, 0, kvBytesPerToken), units: run.prefillUnits };
    const decode = {
      load: loadOfShape(run.decode, 1, kvBytesPerToken),
      units: constants.units - run.prefillUnits,
    };
    return [
      step(prefill.load, prefill.units, decode, run.heldOut),
      step(decode.load, decode.units, prefill, run.heldOut),
    ];
  });
}

describe('the fit', () => {
  const start = preset('l20');
  const truth = truthOf(start);

  it('predicts steps it has not seen about as well as their noise allows', () => {
    const { fitted, heldOut } = splitSamples(synthetic(truth, 0.06, false));
    const constants = fitConstants(work, start, fitted);
    const before = errorsOf(work, start, heldOut);
    const after = errorsOf(work, constants, heldOut);
    expect(before.median).toBeGreaterThan(0.3);
    expect(after.median).toBeLessThan(0.05);
    expect(after.p95).toBeLessThan(0.12);
  });

  it('finds the constants themselves, where operator classes are measured', () => {
    const { fitted } = splitSamples(synthetic(truth, 0.03, true));
    const { memory, operators } = fitConstants(work, start, fitted);
    const near = (found: number, expected: number) =>
      expect(Math.abs(found / expected - 1)).toBeLessThan(0.15);
    near(memory.bytesPerSecond, truth.memory.bytesPerSecond);
    near(operators.matmul.flopsPerSecond, truth.operators.matmul.flopsPerSecond);
    near(operators.prefillAttention.flopsPerSecond, truth.operators.prefillAttention.flopsPerSecond);
    near(operators.decodeAttention.bandwidth, truth.operators.decodeAttention.bandwidth);
  });

  it('is not bent by a few steps that the machine stopped in', () => {
    const clean = synthetic(truth, 0.03, false);
    const disturbed = clean.map((sample, index) =>
      index % 17 === 5 ? { ...sample, seconds: sample.seconds * 6 } : sample,
    );
    const constants = fitConstants(work, start, disturbed);
    expect(errorsOf(work, constants, clean).median).toBeLessThan(0.06);
  });

  it('gives the same constants for the same samples', () => {
    const samples = synthetic(truth, 0.05, false).slice(0, 60);
    expect(fitConstants(work, start, samples)).toEqual(fitConstants(work, start, samples));
  });

  it('needs samples', () => {
    expect(() => fitConstants(work, start, [])).toThrow('no samples');
  });

  it('is worse without the contention term, where lanes slow each other down', () => {
    const together = synthetic(truth, 0, false).filter(({ other }) => other !== null);
    const mean = (errors: number[]) =>
      errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length;
    expect(mean(predictionErrors(work, truth, together))).toBeLessThan(1e-9);
    expect(mean(predictionErrors(work, truth, together, { contention: false }))).toBeGreaterThan(0.03);
  });
});
