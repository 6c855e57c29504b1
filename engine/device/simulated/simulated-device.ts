import type { StepLoad } from '../../scheduler/step-load.js';
import type { Lane } from '../../scheduler/work.js';

/**
 * A device in virtual time: two lanes, each with a share of the units, over one memory. It knows nothing of sequences: a
 * step is a load, and its end is a time. Times are seconds since the start.
 */
export interface SimulatedDevice {
  readonly units: number;
  isBusy(lane: Lane): boolean;
  totals(): DeviceTotals;
  /** Throws if the lane is busy, or if the units are not there. `load` must not change until the step has ended. */
  start(lane: Lane, load: StepLoad, units: number, now: number): void;
  /** When the next step ends if nothing is started before; Infinity if none runs. */
  nextEnd(): number;
  /** Lets time pass to `nextEnd()`, and says which lane's step has ended then; the prefill lane's first if both have. */
  finishNext(): EndedStep;
}

/** Sums since the start, in seconds and bytes. */
export interface DeviceTotals {
  readonly steps: Record<Lane, number>;
  readonly busySeconds: Record<Lane, number>;
  /** Units times the seconds that they were given to a step. */
  readonly unitSeconds: number;
  readonly bytesRead: number;
  /** Steps on another number of units than the lane's last one. */
  readonly repartitions: number;
}

export interface EndedStep {
  readonly lane: Lane;
  /** From its start to its end. */
  readonly seconds: number;
  /** On the device, in the order of `operatorClasses`. */
  readonly opSeconds: Float64Array;
}

/** Throws a RangeError if a lane cannot have so many units beside what the other one has taken. */
export function checkUnits(lane: Lane, units: number, all: number, taken: number): void {
  if (!(units >= 1 && units + taken <= all)) {
    throw new RangeError(`${units} units for the ${lane} lane: ${all - taken} are free`);
  }
}
