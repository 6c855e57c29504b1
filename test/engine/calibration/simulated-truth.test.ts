import { describe, expect, it } from 'vitest';
import { errorsOf, fitConstants } from '../../../engine/calibration/fit.js';
import {
  loadOfShape,
  type MicroRun,
  type PlanLimits,
  planMicroRuns,
} from '../../../engine/calibration/plan.js';
import { type Sample, splitSamples } from '../../../engine/calibration/sample.js';
import { gpus } from '../../../engine/device/simulated/gpu.js';
import { simulatedModels } from '../../../engine/device/simulated/model.js';
import { SimulatedGpu } from '../../../engine/device/simulated/simulated-gpu.js';
import { drawTruth, type RandomSource, type Truth } from '../../../engine/device/simulated/truth.js';
import { modelWork } from '../../../engine/scheduler/model-work.js';
import { preset } from '../../../engine/scheduler/presets.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import type { StepLoad } from '../../../engine/scheduler/step-load.js';
import type { Lane } from '../../../engine/scheduler/work.js';
import { Random } from '../../../loadtest/random.js';
import { median } from '../../../loadtest/statistics.js';

const gpu = gpus.h200;
const model = simulatedModels['llama-3.1-8b'];
const start = preset('h200');
const work = modelWork(model, 'bf16');
const limits: PlanLimits = {
  units: gpu.units,
  splits: splitsOf(gpu.units, start.smallestGroup),
  maxStepTokens: 2048,
  maxSequences: 64,
  pageTokens: 32,
  contextLength: 32768,
  kvBytesPerToken: 2 * 2 * model.layers * model.kvHeads * model.headDim,
  quick: false,
};

/** The run's median steps on a machine that behaves like `truth`, which the cost model's form does not hold wholly. */
function measure(run: MicroRun, truth: Truth, random: RandomSource): Sample[] {
  const machine = new SimulatedGpu(model, truth, random);
  const { kvBytesPerToken, units } = limits;
  const heldOut = run.heldOut ?? false;
  const steps: Record<Lane, number[]> = { prefill: [], decode: [] };
  const advance = (loads: Partial<Record<Lane, { load: StepLoad; units: number }>>) => {
    const now = machine.nextEnd();
    const { lane, seconds } = machine.finishNext();
    steps[lane].push(seconds);
    machine.start(lane, loads[lane]!.load, loads[lane]!.units, now);
  };
  // The first step of each lane comes from another split.
  const sampled = (lane: Lane) => median(steps[lane].slice(1));
  if (run.mode === 'alone') {
    const lane = run.shape.chunks.length > 0 ? 'prefill' : 'decode';
    const load = loadOfShape(run.shape, 1, kvBytesPerToken);
    machine.start(lane, load, run.units, 0);
    while (steps[lane].length < 5) advance({ [lane]: { load, units: run.units } });
    return [{ load, units: run.units, other: null, seconds: sampled(lane), heldOut }];
  }
  const prefill = { load: loadOfShape(run.prefill, 0, kvBytesPerToken), units: run.prefillUnits };
  const decode = { load: loadOfShape(run.decode, 1, kvBytesPerToken), units: units - run.prefillUnits };
  machine.start('prefill', prefill.load, prefill.units, 0);
  machine.start('decode', decode.load, decode.units, 0);
  while (Math.min(steps.prefill.length, steps.decode.length) < 4) advance({ prefill, decode });
  return [
    { ...prefill, other: decode, seconds: sampled('prefill'), heldOut },
    { ...decode, other: prefill, seconds: sampled('decode'), heldOut },
  ];
}

/** A run of any kind at any place, whatever the plan holds. */
function anyRun(random: RandomSource): MicroRun {
  const uniform = () => random.uniform();
  const from = (least: number, most: number) => least * (most / least) ** uniform();
  const pages = () => 32 * Math.round(from(32, 16384) / 32);
  const split = limits.splits[Math.floor(uniform() * limits.splits.length)]!;
  const chunks = [{ tokens: Math.round(from(8, 1984)), context: uniform() < 0.25 ? 0 : pages() }];
  const prefill = { chunks, sequences: 0, context: 0 };
  const decode = { chunks: [], sequences: Math.round(from(1, 64)), context: pages() };
  const kind = uniform();
  if (kind < 0.3) return { mode: 'together', prefill, decode, prefillUnits: split };
  if (kind < 0.5) return { mode: 'alone', shape: { ...decode, chunks }, units: limits.units };
  if (kind < 0.6) return { mode: 'alone', shape: prefill, units: split };
  if (kind < 0.7) return { mode: 'alone', shape: prefill, units: limits.units };
  if (kind < 0.8) return { mode: 'alone', shape: decode, units: limits.units - split };
  return { mode: 'alone', shape: decode, units: limits.units };
}

describe.each([1, 2])(
  'a simulated H200 on which arithmetic suffers beside reading, drawn with seed %i',
  (seed) => {
    const random = new Random(seed * 31 + 7);
    const truth = { ...drawTruth(gpu, random), cacheLoss: 0.5 };
    const samples = planMicroRuns(limits)
      .slice(0, 125)
      .flatMap((run) => measure(run, truth, random));
    const { fitted, heldOut } = splitSamples(samples);
    const constants = fitConstants(work, start, fitted);
    const noiseless = { ...truth, noise: 0, stallShare: 0 };
    const anywhere = Array.from({ length: 240 }, () => anyRun(random)).flatMap((run) =>
      measure(run, noiseless, random),
    );

    it('is foreseen wherever the scheduler may ask, after as many runs as 15 seconds are for', () => {
      const { median, p95 } = errorsOf(work, constants, anywhere);
      expect(median).toBeLessThan(0.06);
      expect(p95).toBeLessThan(0.2);
    });

    it('is foreseen as well by what was held out, so that its errors can be believed', () => {
      const { count, median, p95 } = errorsOf(work, constants, heldOut);
      expect(count).toBeGreaterThan(25);
      const all = errorsOf(work, constants, anywhere);
      expect(Math.abs(median - all.median)).toBeLessThan(0.03);
      expect(Math.abs(p95 - all.p95)).toBeLessThan(0.1);
    });
  },
);
