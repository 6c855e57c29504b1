import { operatorClasses } from '../device/device.js';
import { CostModel } from '../scheduler/cost-model.js';
import type { DeviceConstants } from '../scheduler/device-constants.js';
import type { ModelWork } from '../scheduler/model-work.js';
import type { StepLoad } from '../scheduler/step-load.js';
import { freeParameters, type Parameter, startFor } from './parameters.js';
import { loadOf, type Sample } from './sample.js';

/** Errors of this size begin to count by their size and not by its square: one disturbed step must not bend the rest. */
const robustError = 0.1;
/** Pull towards the preset, so that what the samples cannot tell stays plausible. */
const pull = 2e-4;
/** Of an operator class's own error, for a class that is the whole step. */
const classWeight = 0.5;
const firstStep = 0.5;
const lastStep = 0.003;
const maxSweeps = 200;
/** A pattern search stops on a ridge between two parameters; with long steps again it finds its way along. */
const searches = 5;

/**
 * Constants under which the model predicts the samples best, in logarithm of seconds: what is half as long counts as much
 * as what is twice as long, and a short step as much as a long one. Hooke and Jeeves' pattern search from the preset:
 * along each parameter in turn, then once more in the direction that the sweep found. Pure: the same samples give the
 * same constants.
 */
export function fitConstants(
  work: ModelWork,
  preset: DeviceConstants,
  samples: readonly Sample[],
): DeviceConstants {
  if (samples.length === 0) throw new RangeError('constants cannot be fitted to no samples');
  const observed = samples.map(observe);
  const shares = [...new Set(samples.map(({ units }) => units / preset.units))].sort((a, b) => a - b);
  const parameters = freeParameters({
    shares,
    hasContention: samples.some(({ other }) => other !== null),
    hasOpSeconds: samples.some(({ opSeconds }) => opSeconds !== undefined),
  });
  const start = startFor(preset, shares);
  const origin = parameters.map((parameter) => parameter.read(start));
  const loss = (constants: DeviceConstants) =>
    meanError(work, constants, observed) + pull * distance(parameters, origin, constants);
  let best = start;
  for (let turn = 0; turn < searches; turn++) best = search(parameters, best, loss);
  return best;
}

function search(
  parameters: readonly Parameter[],
  start: DeviceConstants,
  loss: (constants: DeviceConstants) => number,
): DeviceConstants {
  const steps = parameters.map(() => firstStep);
  let best = start;
  let least = loss(best);
  const consider = (candidate: DeviceConstants): boolean => {
    const found = loss(candidate);
    if (!(found < least)) return false;
    best = candidate;
    least = found;
    return true;
  };
  for (let sweep = 0; sweep < maxSweeps && Math.max(...steps.map(Math.abs)) > lastStep; sweep++) {
    const before = best;
    for (const [index, parameter] of parameters.entries()) {
      const step = steps[index]!;
      const value = parameter.read(best);
      if (consider(parameter.write(best, value + step))) steps[index] = step * 1.5;
      else if (consider(parameter.write(best, value - step))) steps[index] = -step;
      else steps[index] = step / 2;
    }
    // Twice as far the same way.
    const after = best;
    if (after !== before) {
      consider(
        parameters.reduce(
          (moved, parameter) => parameter.write(moved, 2 * parameter.read(after) - parameter.read(before)),
          after,
        ),
      );
    }
  }
  return best;
}

interface Observed {
  readonly load: StepLoad;
  readonly units: number;
  readonly other: { readonly load: StepLoad; readonly units: number } | null;
  readonly logSeconds: number;
  readonly opSeconds: readonly number[] | undefined;
}

function observe({ load, units, other, seconds, opSeconds }: Sample): Observed {
  return {
    load: loadOf(load),
    units,
    other: other && { load: loadOf(other.load), units: other.units },
    logSeconds: Math.log(seconds),
    opSeconds,
  };
}

function meanError(work: ModelWork, constants: DeviceConstants, samples: readonly Observed[]): number {
  const model = new CostModel(work, constants, constants.units);
  const byClass = new Float64Array(operatorClasses.length);
  let sum = 0;
  for (const { load, units, other, logSeconds, opSeconds } of samples) {
    const seconds = model.byClass(load, units, other, byClass);
    sum += robust(Math.log(seconds) - logSeconds);
    if (opSeconds === undefined) continue;
    const measured = Math.exp(logSeconds);
    for (const [index, actual] of opSeconds.entries()) {
      if (!(actual > 0 && byClass[index]! > 0)) continue;
      sum += classWeight * (actual / measured) * robust(Math.log(byClass[index]! / actual));
    }
  }
  return sum / samples.length;
}

/** Huber's loss, smoothed: quadratic near zero, linear far away. */
function robust(error: number): number {
  return robustError * (Math.hypot(1, error / robustError) - 1);
}

function distance(
  parameters: readonly Parameter[],
  origin: readonly number[],
  constants: DeviceConstants,
): number {
  let sum = 0;
  for (const [index, parameter] of parameters.entries()) {
    sum += (parameter.read(constants) - origin[index]!) ** 2;
  }
  return sum;
}

export interface Errors {
  readonly count: number;
  /** |predicted / measured - 1| */
  readonly median: number;
  readonly p95: number;
}

/** How far the model is from samples, those it was fitted to or others. */
export function errorsOf(work: ModelWork, constants: DeviceConstants, samples: readonly Sample[]): Errors {
  const errors = predictionErrors(work, constants, samples)
    .map(Math.abs)
    .sort((a, b) => a - b);
  const at = (part: number) =>
    errors[Math.min(errors.length - 1, Math.floor(part * errors.length))] ?? Number.NaN;
  return { count: errors.length, median: at(0.5), p95: at(0.95) };
}

/** predicted / measured - 1 of each sample. */
export function predictionErrors(
  work: ModelWork,
  constants: DeviceConstants,
  samples: readonly Sample[],
  options: { readonly contention?: boolean } = {},
): number[] {
  const model = new CostModel(work, constants, constants.units, options);
  const byClass = new Float64Array(operatorClasses.length);
  return samples.map((sample) => {
    const { load, units, other } = observe(sample);
    return model.byClass(load, units, other, byClass) / sample.seconds - 1;
  });
}
