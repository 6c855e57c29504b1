import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errorsOf, fitConstants, predictionErrors } from '../../../engine/calibration/fit.js';
import { loadOf, type Sample } from '../../../engine/calibration/sample.js';
import type { ModelSpec } from '../../../engine/index.js';
import type { WeightClass } from '../../../engine/model/weight-bytes.js';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import { modelWork } from '../../../engine/scheduler/model-work.js';
import { type PresetQuestion, presetFor } from '../../../engine/scheduler/presets.js';

interface Recording {
  readonly device: PresetQuestion;
  readonly spec: ModelSpec;
  readonly weights: WeightClass;
  readonly samples: readonly Sample[];
}

/** Recorded with `tandem calibrate MODEL --record FILE` (the larger with `--seconds 180`) on two cores of an AMD EPYC with AVX-512. */
function recording(name: string) {
  const file = new URL(`../scheduler/data/${name}.json`, import.meta.url);
  const { device, spec, weights, samples } = JSON.parse(readFileSync(file, 'utf8')) as Recording;
  const work = modelWork(spec, weights);
  const preset = presetFor(device, weights);
  // Recorded before plans had runs of their own to be judged by.
  const heldOut = samples.filter((_, index) => index % 4 === 3);
  const fitted = samples.filter((_, index) => index % 4 !== 3);
  return { work, preset, samples, heldOut, constants: fitConstants(work, preset, fitted) };
}

describe.each([
  ['a model of 1.2 billion weights', 'llama-1b-int8'],
  ['the demo model, whose steps take milliseconds or less', 'demo-int8'],
])('steps recorded with %s', (_, name) => {
  const { work, preset, heldOut, constants } = recording(name);

  it('are foreseen to within 10%, 19 of 20 to within 25%, though the fit has not seen them', () => {
    const { median, p95, count } = errorsOf(work, constants, heldOut);
    expect(count).toBeGreaterThan(20);
    expect(median).toBeLessThanOrEqual(0.1);
    expect(p95).toBeLessThanOrEqual(0.25);
  });

  it('are foreseen better than by the preset', () => {
    const calibrated = errorsOf(work, constants, heldOut).median;
    expect(calibrated).toBeLessThan(errorsOf(work, preset, heldOut).median / 2);
  });
});

describe('the contention term', () => {
  it('foresees steps of a large model better, where both lanes were busy', () => {
    const { work, samples, constants } = recording('llama-1b-int8');
    const together = samples.filter(({ other }) => other !== null);
    const mean = (contention: boolean) =>
      predictionErrors(work, constants, together, { contention }).reduce(
        (sum, error) => sum + Math.abs(error),
        0,
      ) / together.length;
    expect(together.length).toBeGreaterThan(8);
    expect(mean(true)).toBeLessThan(mean(false));
  });
});

describe('decode beside prefill on disjoint SMs of an H200', () => {
  /** Four layers of the same model, timed by another program: `native/gpu-check.sh --only nexus`. */
  const file = new URL('../scheduler/data/lanes-h200.json', import.meta.url);
  const lanes = JSON.parse(readFileSync(file, 'utf8')) as Pick<Recording, 'spec' | 'samples'>;

  it('is foreseen to slow down as it does, by constants that were calibrated elsewhere', () => {
    const { constants } = recording('llama-8b-bf16-h200');
    const model = new CostModel(modelWork(lanes.spec, 'bf16'), constants, constants.units);
    const classes = new Float64Array(4);
    const errors = lanes.samples.flatMap(({ load, units, other, seconds }) => {
      if (other === null || load.decodeSequences === 0) return [];
      const alone = lanes.samples.find(
        (sample) =>
          sample.other === null &&
          sample.units === units &&
          JSON.stringify(sample.load) === JSON.stringify(load),
      )!;
      const beside = { load: loadOf(other.load), units: other.units };
      const foreseen =
        model.byClass(loadOf(load), units, beside, classes) /
        model.byClass(loadOf(load), units, null, classes);
      return [Math.abs(foreseen / (seconds / alone.seconds) - 1)];
    });
    errors.sort((a, b) => a - b);
    expect(errors.length).toBe(20);
    expect(errors[10]).toBeLessThan(0.06);
    expect(errors[18]).toBeLessThan(0.1);
  });
});
