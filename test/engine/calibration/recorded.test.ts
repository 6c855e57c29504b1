import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errorsOf, fitConstants, predictionErrors } from '../../../engine/calibration/fit.js';
import { type Sample, splitSamples } from '../../../engine/calibration/sample.js';
import type { ModelSpec } from '../../../engine/index.js';
import { modelWork, type WeightClass } from '../../../engine/scheduler/model-work.js';
import { type PresetQuestion, presetFor } from '../../../engine/scheduler/presets.js';

interface Recording {
  readonly device: PresetQuestion;
  readonly spec: ModelSpec;
  readonly weights: WeightClass;
  readonly samples: readonly Sample[];
}

/** Recorded with `tandem calibrate MODEL --seconds 180 --record FILE` on two cores of an AMD EPYC with AVX-512. */
function recording(name: string) {
  const file = new URL(`../scheduler/data/${name}.json`, import.meta.url);
  const { device, spec, weights, samples } = JSON.parse(readFileSync(file, 'utf8')) as Recording;
  const work = modelWork(spec, weights);
  const preset = presetFor(device, weights);
  const { fitted, heldOut } = splitSamples(samples);
  return { work, preset, samples, heldOut, constants: fitConstants(work, preset, fitted) };
}

describe('steps recorded with a model of 1.2 billion weights', () => {
  const { work, preset, samples, heldOut, constants } = recording('llama-1b-int8');

  it('are foreseen to within 10%, 19 of 20 to within 25%, though the fit has not seen them', () => {
    const { median, p95, count } = errorsOf(work, constants, heldOut);
    expect(count).toBeGreaterThan(10);
    expect(median).toBeLessThanOrEqual(0.1);
    expect(p95).toBeLessThanOrEqual(0.25);
  });

  it('are foreseen better than by the preset', () => {
    const calibrated = errorsOf(work, constants, heldOut).median;
    expect(calibrated).toBeLessThan(errorsOf(work, preset, heldOut).median / 2);
  });

  it('are foreseen worse without the contention term, where both lanes were busy', () => {
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

describe('steps recorded with the demo model, which take less than a millisecond each', () => {
  const { work, preset, heldOut, constants } = recording('demo-int8');

  it('are foreseen to within 10% as a rule; what a virtual machine does to short steps nobody foresees', () => {
    const { median } = errorsOf(work, constants, heldOut);
    expect(median).toBeLessThanOrEqual(0.1);
    expect(median).toBeLessThan(errorsOf(work, preset, heldOut).median / 2);
  });
});
