import type { InFlight } from './policy.js';
import type { StepLoad } from './step-load.js';
import { type Lane, otherLane, type StepPlan } from './work.js';

/** A step that runs. */
export interface RunningStep<W> extends InFlight {
  readonly plan: StepPlan<W>;
  /** What ran on the other lane when it started. */
  readonly other: InFlight | null;
}

/** The two lanes of a device: the step that each of them runs, on how many units, and the one that waits behind decode's. */
export class Lanes<W> {
  readonly #running: Record<Lane, RunningStep<W> | null> = { prefill: null, decode: null };
  #following: StepPlan<W> | null = null;
  readonly #steps = { prefill: 0, decode: 0 };
  /** Units of prefill in the last step that shared the device. */
  #share: number;
  #mixedSteps = 0;
  #repartitions = 0;

  constructor(
    /** Compute units of the device. */
    readonly units: number,
  ) {
    this.#share = units;
  }

  /** Totals since the start. */
  get counts() {
    return {
      steps: { ...this.#steps },
      mixedSteps: this.#mixedSteps,
      repartitions: this.#repartitions,
    };
  }

  /** Units that each lane has, or had in its last step. */
  get share(): Readonly<Record<Lane, number>> {
    return { prefill: this.#share, decode: this.units - this.#share };
  }

  get running(): Readonly<Record<Lane, RunningStep<W> | null>> {
    return this.#running;
  }

  /** The decode step that begins when the running one ends. */
  get following(): StepPlan<W> | null {
    return this.#following;
  }

  get isIdle(): boolean {
    return !this.#running.prefill && !this.#running.decode;
  }

  /** What is in the lane's running step. */
  worksIn(lane: Lane): ReadonlySet<W> {
    return new Set(this.#running[lane]?.plan.chunks.map(({ work }) => work));
  }

  /**
   * Units for a step that should have so many; 0 if none can start. Decode takes what is free of them; prefill, whose steps are
   * long, rather waits for a decode step to end than read a chunk on less.
   */
  unitsFor(lane: Lane, wantedUnits: number): number {
    if (this.#running[lane]) return 0;
    const free = this.units - (this.#running[otherLane(lane)]?.units ?? 0);
    const units = Math.min(wantedUnits, free);
    return lane === 'prefill' && units < wantedUnits ? 0 : Math.max(0, units);
  }

  /** The step begins, on a free lane. */
  start(plan: StepPlan<W>, load: StepLoad): void {
    const { lane, units } = plan;
    this.#begin(plan, load);
    const share = lane === 'prefill' ? units : this.units - units;
    if (share !== this.#share) this.#repartitions++;
    this.#share = share;
  }

  /** The step waits behind the running one of the decode lane. */
  queue(plan: StepPlan<W>): void {
    this.#following = plan;
  }

  /** The step that waited is not going to run. */
  withdraw(): void {
    this.#following = null;
  }

  /** The step is over. What waited for that has begun, with the load that `loadOf` says. */
  end(plan: StepPlan<W>, loadOf: (following: StepPlan<W>) => StepLoad): RunningStep<W> {
    const { lane } = plan;
    const ended = this.#running[lane];
    if (ended?.plan !== plan) throw new Error(`the ${lane} lane does not run this step`);
    this.#running[lane] = null;
    const following = this.#following;
    if (lane === 'decode' && following) {
      this.#following = null;
      this.#begin(following, loadOf(following));
    }
    return ended;
  }

  /** The step that ended did what it was to do. */
  count({ plan, load }: RunningStep<W>): void {
    this.#steps[plan.lane]++;
    if (load.prefillTokens > 0 && load.decodeSequences > 0) this.#mixedSteps++;
  }

  #begin(plan: StepPlan<W>, load: StepLoad): void {
    const { lane, units } = plan;
    const other = this.#running[otherLane(lane)];
    this.#running[lane] = { plan, load, units, other: other && { load: other.load, units: other.units } };
  }
}
