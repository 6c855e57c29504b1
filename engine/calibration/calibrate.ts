import type { Device } from '../device/device.js';
import type { WeightClass } from '../model/weight-bytes.js';
import { CostModel } from '../scheduler/cost-model.js';
import type { DeviceConstants } from '../scheduler/device-constants.js';
import { modelWork } from '../scheduler/model-work.js';
import { presetFor } from '../scheduler/presets.js';
import { splitsOf } from '../scheduler/splits.js';
import { type Errors, errorsOf, fitConstants } from './fit.js';
import { MicroRunner } from './micro-runner.js';
import { loadOfShape, type MicroRun, type PlanLimits, planMicroRuns, withinBudget } from './plan.js';
import { type Sample, splitSamples } from './sample.js';

export interface CalibrationOptions {
  readonly weights: WeightClass;
  /** What the micro-runs may take together, about. */
  readonly seconds: number;
  readonly quick: boolean;
  readonly maxSequences: number;
  /** KV memory that contexts are made of (`poolBytesFor`); the device has room for it beside what else runs need. */
  readonly poolBytes: number;
  /** Longest sequence. */
  readonly contextLength: number;
  /** In seconds. */
  readonly clock: () => number;
  /** Seconds of processor time that other programs have used so far; 0 always where that makes no difference. */
  readonly otherPrograms: () => number;
  /** From 0 to 1. */
  readonly onProgress: (done: number) => void;
}

export interface Calibration {
  readonly constants: DeviceConstants;
  readonly samples: readonly Sample[];
  /** Runs during which other programs computed, each time they were tried. */
  readonly disturbedRuns: number;
  /** On the samples that the constants were not fitted to. */
  readonly heldOut: Errors;
  /** The preset on the same samples: what calibration was worth. */
  readonly preset: Errors;
}

/** Of the time, what filling the KV pool may take. */
const poolPart = 0.1;
/** Steps of a run that the plan pays for: with two, the first may be slow. */
const plannedSteps = 2.5;
/** Of one core, what other programs may use during a run. */
const allowedDisturbance = 0.08;
/** Of the time, what the plan's runs may be foreseen to take once; the rest is for repetitions. */
const firstRoundPart = 0.6;
const mostRounds = 7;
/** Steps of one run are repeated for so long at most. */
const longestRunSeconds = 0.3;

/** Measures micro-runs on a device that nothing else uses, and fits constants to them. */
export async function calibrate(device: Device, options: CalibrationOptions): Promise<Calibration> {
  const { info, kv } = device;
  const { weights, seconds, quick, maxSequences, poolBytes, contextLength, clock } = options;
  const work = modelWork(info.spec, weights);
  const preset = presetFor(info, weights);
  const limits: PlanLimits = {
    units: info.units,
    splits: info.splits ?? splitsOf(info.units, preset.smallestGroup),
    maxStepTokens: info.maxStepTokens,
    maxSequences,
    pageTokens: kv.pageTokens,
    contextLength,
    kvBytesPerToken: kv.blockBytes / kv.pageTokens,
    quick,
  };
  const runner = await MicroRunner.open(device, poolBytes, seconds * poolPart, clock);
  try {
    const grid = planMicroRuns(limits);
    const scale = await slowness(runner, grid, new CostModel(work, preset, info.units), limits);
    const model = new CostModel(work, preset, info.units);
    const estimate = (run: MicroRun) => scale * plannedSteps * stepSeconds(run, model, limits);
    const runs = withinBudget(grid, seconds * firstRoundPart, estimate);
    const { samples, disturbedRuns } = await measureAll(runner, runs, seconds * (1 - poolPart), options);
    const { fitted, heldOut } = splitSamples(samples);
    const constants = { ...fitConstants(work, preset, fitted), name: info.name };
    return {
      constants,
      samples,
      disturbedRuns,
      heldOut: errorsOf(work, constants, heldOut),
      preset: errorsOf(work, preset, heldOut),
    };
  } finally {
    runner.close();
  }
}

interface Measured {
  readonly samples: readonly Sample[];
  readonly isQuiet: boolean;
}

/**
 * Measures each run once, then those again that other programs disturbed, then all of them while there is time; the
 * median counts. What was disturbed each time is left out, unless that is most of it: then a busy machine is what there is.
 */
async function measureAll(
  runner: MicroRunner,
  runs: readonly MicroRun[],
  seconds: number,
  { quick, clock, otherPrograms, onProgress }: CalibrationOptions,
): Promise<{ samples: Sample[]; disturbedRuns: number }> {
  const began = clock();
  const tries = new Map<MicroRun, Measured[]>(runs.map((run) => [run, []]));
  const isQuiet = (run: MicroRun) => tries.get(run)!.some((measured) => measured.isQuiet);
  // More runs are worth more than more steps of each.
  const runSeconds = Math.min(longestRunSeconds, (seconds * firstRoundPart) / runs.length);
  for (let round = 0; round < (quick ? 1 : mostRounds); round++) {
    const turn = [...runs].sort((a, b) => Number(isQuiet(a)) - Number(isQuiet(b)));
    for (const [index, run] of turn.entries()) {
      const used = clock() - began;
      if (round > 0 && used > seconds) break;
      const begin = clock();
      const before = otherPrograms();
      const samples = await runner.measure(run, quick ? 0.05 : runSeconds);
      const disturbance = (otherPrograms() - before) / (clock() - begin);
      tries.get(run)!.push({ samples, isQuiet: disturbance <= allowedDisturbance });
      onProgress(Math.max((index + 1) / runs.length / mostRounds, Math.min(1, used / seconds)));
    }
  }
  const quietRuns = runs.filter(isQuiet);
  const kept = quietRuns.length * 2 >= runs.length ? quietRuns : runs;
  const samples = kept.flatMap((run) => {
    const measured = tries.get(run)!;
    const quiet = measured.filter((one) => one.isQuiet);
    const { heldOut = false } = run;
    return medianSamples((quiet.length > 0 ? quiet : measured).map((one) => one.samples)).map((sample) => ({
      ...sample,
      heldOut,
    }));
  });
  return { samples, disturbedRuns: runs.length - quietRuns.length };
}

/** Of repeated measurements of one run, the middle one, for each of its lanes. */
function medianSamples(repeated: readonly (readonly Sample[])[]): Sample[] {
  const complete = repeated.filter((samples) => samples.length > 0);
  return (complete[0] ?? []).map((_, lane) => {
    const bySeconds = complete.map((samples) => samples[lane]!).sort((a, b) => a.seconds - b.seconds);
    return bySeconds[Math.floor((bySeconds.length - 1) / 2)]!;
  });
}

/** Measured over predicted of some small runs: how wrong the preset is, for planning. */
async function slowness(
  runner: MicroRunner,
  grid: readonly MicroRun[],
  model: CostModel,
  limits: PlanLimits,
): Promise<number> {
  const alone = grid.filter((run) => run.mode === 'alone' && run.shape.sequences === 0);
  const smallest = [...alone].sort((a, b) => stepSeconds(a, model, limits) - stepSeconds(b, model, limits));
  let worst = 0;
  for (const run of smallest.slice(0, 3)) {
    const [sample] = await runner.measure(run, 0.05);
    worst = Math.max(worst, sample!.seconds / stepSeconds(run, model, limits));
  }
  return worst;
}

function stepSeconds(run: MicroRun, model: CostModel, limits: PlanLimits): number {
  const seconds = (shape: Parameters<typeof loadOfShape>[0], units: number) =>
    model.alone(loadOfShape(shape, 1, limits.kvBytesPerToken), units);
  if (run.mode === 'alone') return seconds(run.shape, run.units);
  return Math.max(
    seconds(run.prefill, run.prefillUnits),
    seconds(run.decode, limits.units - run.prefillUnits),
  );
}
