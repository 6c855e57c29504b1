import type { StepLoad } from '../../scheduler/step-load.js';
import { type Lane, otherLane } from '../../scheduler/work.js';
import { operatorClasses } from '../device.js';
import type { SimulatedModel } from './model.js';
import { runAlone, runTogether, StepProgress } from './shared-memory.js';
import { checkUnits, type DeviceTotals, type EndedStep, type SimulatedDevice } from './simulated-device.js';
import { classOfPart, demandOf, StepDemand } from './step-demand.js';
import { drawNoise, type RandomSource, type Truth } from './truth.js';

/** A GPU that is not there: how long its steps take is in `truth.ts`, `step-demand.ts` and `shared-memory.ts`. */
export class SimulatedGpu implements SimulatedDevice {
  readonly #model: SimulatedModel;
  readonly #truth: Truth;
  readonly #random: RandomSource;
  readonly #lanes: Record<Lane, LaneState> = { prefill: new LaneState(), decode: new LaneState() };
  #now = 0;
  /** When the next step ends if nothing is started before; NaN: to be found. */
  #nextEnd = Number.POSITIVE_INFINITY;
  #unitSeconds = 0;
  #bytesRead = 0;
  #repartitions = 0;

  constructor(model: SimulatedModel, truth: Truth, random: RandomSource) {
    this.#model = model;
    this.#truth = truth;
    this.#random = random;
  }

  get units(): number {
    return this.#truth.units;
  }

  isBusy(lane: Lane): boolean {
    return this.#lanes[lane].isRunning;
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
    if (state.isRunning) throw new Error(`the ${lane} lane is busy`);
    checkUnits(lane, units, this.#truth.units, other.isRunning ? other.units : 0);
    this.#runTo(now);
    const { factor, stallSeconds } = drawNoise(this.#truth, this.#random);
    const { progress } = state;
    demandOf(load, units, this.#model, this.#truth, factor, progress.demand);
    const sequences = load.decodeSequences + (load.prefillTokens > 0 ? 1 : 0);
    let hostSeconds =
      this.#truth.hostStepSeconds + sequences * this.#truth.hostSequenceSeconds + stallSeconds;
    if (units !== state.units) {
      hostSeconds += this.#truth.repartitionSeconds;
      if (state.steps > 0) this.#repartitions++;
    }
    state.units = units;
    state.startedAt = now;
    state.isRunning = true;
    progress.begin(hostSeconds);
    this.#bytesRead += progress.demand.totalBytes;
    this.#nextEnd = Number.NaN;
  }

  nextEnd(): number {
    if (Number.isNaN(this.#nextEnd)) this.#nextEnd = this.#findNextEnd();
    return this.#nextEnd;
  }

  finishNext(): EndedStep {
    const end = this.nextEnd();
    const { prefill, decode } = this.#lanes;
    if (prefill.isRunning && decode.isRunning) {
      prefill.progress.copyFrom(prefill.ahead);
      decode.progress.copyFrom(decode.ahead);
    } else {
      (prefill.isRunning ? prefill : decode).progress.finishAlone();
    }
    const lane: Lane = prefill.isRunning && prefill.progress.isDone ? 'prefill' : 'decode';
    const state = this.#lanes[lane];
    if (!state.isRunning) throw new Error('no step runs');
    state.isRunning = false;
    this.#now = end;
    this.#nextEnd = Number.NaN;
    const seconds = end - state.startedAt;
    state.steps++;
    state.busySeconds += seconds;
    this.#unitSeconds += seconds * state.units;
    return { lane, seconds, opSeconds: byClass(state.progress.partSeconds) };
  }

  #findNextEnd(): number {
    const { prefill, decode } = this.#lanes;
    if (!prefill.isRunning && !decode.isRunning) return Number.POSITIVE_INFINITY;
    if (!decode.isRunning) return this.#now + prefill.progress.secondsAlone();
    if (!prefill.isRunning) return this.#now + decode.progress.secondsAlone();
    prefill.ahead.copyFrom(prefill.progress);
    decode.ahead.copyFrom(decode.progress);
    return this.#now + runTogether(prefill.ahead, decode.ahead, this.#truth, Number.POSITIVE_INFINITY);
  }

  /** What runs gets on, up to `now`. */
  #runTo(now: number): void {
    const { prefill, decode } = this.#lanes;
    const seconds = now - this.#now;
    if (prefill.isRunning && decode.isRunning) {
      runTogether(prefill.progress, decode.progress, this.#truth, seconds);
    } else if (prefill.isRunning) runAlone(prefill.progress, seconds);
    else if (decode.isRunning) runAlone(decode.progress, seconds);
    this.#now = now;
  }
}

/** From parts to the classes that a real device measures. */
function byClass(partSeconds: Float64Array): Float64Array {
  const opSeconds = new Float64Array(operatorClasses.length);
  for (const [part, name] of classOfPart.entries())
    opSeconds[operatorClasses.indexOf(name)]! += partSeconds[part]!;
  return opSeconds;
}

class LaneState {
  readonly progress: StepProgress;
  /** Where `progress` will be when the first of both lanes ends. */
  readonly ahead: StepProgress;
  isRunning = false;
  units = 0;
  startedAt = 0;
  steps = 0;
  busySeconds = 0;

  constructor() {
    const demand = new StepDemand();
    this.progress = new StepProgress(demand);
    this.ahead = new StepProgress(demand);
  }
}
