import { CostModel } from '../../scheduler/cost-model.js';
import type { DeviceConstants } from '../../scheduler/device-constants.js';
import { type ModelWork, weightBytesRead } from '../../scheduler/model-work.js';
import type { StepLoad } from '../../scheduler/step-load.js';
import { type Lane, otherLane } from '../../scheduler/work.js';
import { operatorClasses } from '../device.js';
import { checkUnits, type DeviceTotals, type EndedStep, type SimulatedDevice } from './simulated-device.js';

/**
 * A machine as its calibration knows it: a step takes what the cost model foresees by the calibrated constants, without
 * correction and without noise. Unlike a `SimulatedGpu` it holds the truth to be what the scheduler starts from, so what
 * it gets wrong about a real machine is what the constants and the model get wrong.
 *
 * The model foresees a step alone, or beside another step that lasts as long. Here the other lane begins and ends where
 * it does: at each such moment what is left of a step goes on at its new speed.
 */
export class CalibratedMachine implements SimulatedDevice {
  readonly units: number;
  readonly #work: ModelWork;
  readonly #model: CostModel;
  readonly #lanes: Record<Lane, LaneState> = { prefill: new LaneState(), decode: new LaneState() };
  #now = 0;
  #unitSeconds = 0;
  #bytesRead = 0;
  #repartitions = 0;

  constructor(work: ModelWork, constants: DeviceConstants) {
    this.units = constants.units;
    this.#work = work;
    this.#model = new CostModel(work, constants, constants.units);
  }

  isBusy(lane: Lane): boolean {
    return this.#lanes[lane].load !== null;
  }

  totals(): DeviceTotals {
    const { prefill, decode } = this.#lanes;
    return {
      steps: { prefill: prefill.steps, decode: decode.steps },
      busySeconds: { prefill: prefill.busySeconds, decode: decode.busySeconds },
      unitSeconds: this.#unitSeconds,
      bytesRead: this.#bytesRead,
      repartitions: this.#repartitions,
    };
  }

  start(lane: Lane, load: StepLoad, units: number, now: number): void {
    const state = this.#lanes[lane];
    const other = this.#lanes[otherLane(lane)];
    if (state.load) throw new Error(`the ${lane} lane is busy`);
    checkUnits(lane, units, this.units, other.load ? other.units : 0);
    other.pass(now - this.#now);
    this.#now = now;
    if (units !== state.units && state.steps > 0) this.#repartitions++;
    state.begin(load, units, now);
    this.#bytesRead += weightBytesRead(load, this.#work) + load.prefillKvBytes + load.decodeKvBytes;
    this.#changeSpeeds();
  }

  nextEnd(): number {
    return Math.min(this.#lanes.prefill.endsAt, this.#lanes.decode.endsAt);
  }

  finishNext(): EndedStep {
    const end = this.nextEnd();
    if (end === Number.POSITIVE_INFINITY) throw new Error('no step runs');
    const lane: Lane = this.#lanes.prefill.endsAt === end ? 'prefill' : 'decode';
    const state = this.#lanes[lane];
    this.#lanes[otherLane(lane)].pass(end - this.#now);
    this.#now = end;
    const { units } = state;
    const ended = { lane, ...state.end(end) };
    this.#unitSeconds += ended.seconds * units;
    this.#changeSpeeds();
    return ended;
  }

  /** Whoever runs goes on as the model foresees it beside what runs now. */
  #changeSpeeds(): void {
    const { prefill, decode } = this.#lanes;
    this.#changeSpeed(prefill, decode);
    this.#changeSpeed(decode, prefill);
  }

  #changeSpeed(state: LaneState, other: LaneState): void {
    if (!state.load) return;
    const beside = other.load && { load: other.load, units: other.units };
    state.wholeSeconds = this.#model.byClass(state.load, state.units, beside, state.classSeconds);
    state.endsAt = this.#now + state.left * state.wholeSeconds;
  }
}

class LaneState {
  /** Of the step that runs; null while none does. */
  load: StepLoad | null = null;
  units = 0;
  /** Part of the step that is still to be done. */
  left = 0;
  /** Seconds of the whole step at its present speed, and of these each operator class's. */
  wholeSeconds = 0;
  readonly classSeconds = new Float64Array(operatorClasses.length);
  /** When the step ends if its speed does not change; Infinity while none runs. */
  endsAt = Number.POSITIVE_INFINITY;
  steps = 0;
  busySeconds = 0;
  #startedAt = 0;
  /** Seconds that each class has taken so far. */
  #spent = new Float64Array(operatorClasses.length);

  begin(load: StepLoad, units: number, now: number): void {
    this.load = load;
    this.units = units;
    this.left = 1;
    this.#startedAt = now;
    this.#spent = new Float64Array(operatorClasses.length);
  }

  /** Goes on for so long, which is no longer than to its end. */
  pass(seconds: number): void {
    if (!this.load) return;
    this.#spend(Math.min(this.left, seconds / this.wholeSeconds));
  }

  end(now: number): Pick<EndedStep, 'seconds' | 'opSeconds'> {
    this.#spend(this.left);
    const seconds = now - this.#startedAt;
    this.load = null;
    this.endsAt = Number.POSITIVE_INFINITY;
    this.steps++;
    this.busySeconds += seconds;
    return { seconds, opSeconds: this.#spent };
  }

  #spend(part: number): void {
    this.left -= part;
    for (const [index, seconds] of this.classSeconds.entries()) this.#spent[index]! += part * seconds;
  }
}
