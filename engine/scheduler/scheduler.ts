import { DecodeSet } from './decode-set.js';
import { Dispatcher } from './dispatcher.js';
import { Lanes, type RunningStep } from './lanes.js';
import type { Memory } from './memory.js';
import type { LanePolicy } from './policy.js';
import { type PrefillOrder, PrefillQueue } from './prefill-queue.js';
import { type PromptRules, readyPrompts } from './ready-prompts.js';
import { Room } from './room.js';
import { StepComposer } from './step-composer.js';
import type { StepLoad } from './step-load.js';
import { type Lane, outranks, type StepPlan, type Work } from './work.js';

export interface SchedulerOptions<W extends Work> {
  readonly memory: Memory<W>;
  readonly policy: LanePolicy;
  readonly order: PrefillOrder;
  /** Compute units of the device. */
  readonly units: number;
  /** Upper bound on the tokens of one step. */
  readonly maxStepTokens: number;
  /** Whether the decode step that follows the running one is planned before that is done. */
  readonly plansAhead?: boolean;
}

/** Totals since the start. */
export interface SchedulerCounts {
  readonly steps: Record<Lane, number>;
  readonly mixedSteps: number;
  readonly repartitions: number;
  readonly preemptions: number;
  readonly swapsOut: number;
  readonly swapsIn: number;
}

/** How a step ended. */
export interface StepOutcome {
  readonly seconds: number;
  readonly opSeconds?: Float64Array;
  readonly nowMs: number;
}

/**
 * Who runs next, and on what share of the device. A state machine without a clock, I/O or timers: it is told what
 * happened (`add`, `complete`, `swappedOut`, ...), and `plan` says which steps to start now. The engine's loop, the
 * simulator and the property tests drive the same code.
 */
export class Scheduler<W extends Work> {
  readonly #memory: Memory<W>;
  #policy: LanePolicy;
  readonly #maxStepTokens: number;
  /** Without a slot. */
  readonly #waiting: PrefillQueue<W>;
  /** With a slot, their prompt partly read. */
  readonly #reading: PrefillQueue<W>;
  readonly #decoding = new DecodeSet<W>();
  readonly #room: Room<W>;
  readonly #lanes: Lanes<W>;
  readonly #composer: StepComposer<W>;
  readonly #dispatcher: Dispatcher<W>;
  readonly #promptRules: PromptRules<W> = {
    mayRun: (work) => this.#mayRun(work),
    start: (work) => this.#start(work),
  };
  readonly #plansAhead: boolean;

  constructor(options: SchedulerOptions<W>) {
    this.#memory = options.memory;
    this.#policy = options.policy;
    this.#maxStepTokens = options.maxStepTokens;
    // What is packed is packed between two steps.
    this.#plansAhead = options.plansAhead === true && !options.memory.packs;
    this.#waiting = new PrefillQueue(options.order);
    this.#reading = new PrefillQueue(options.order);
    this.#lanes = new Lanes(options.units);
    this.#room = new Room(options.memory, {
      holders: () => this.#holders(),
      left: (work) => {
        this.#decoding.delete(work);
        this.#reading.remove(work);
      },
      mustStartAnew: (work) => this.add(work),
    });
    const { memory, maxStepTokens } = options;
    const lanes = this.#lanes;
    this.#composer = new StepComposer(memory, this.#room, maxStepTokens);
    this.#dispatcher = new Dispatcher({ memory, lanes, composer: this.#composer, maxStepTokens });
  }

  get policy(): LanePolicy {
    return this.#policy;
  }

  /** From the next decision on; steps that run end as they were planned. */
  usePolicy(policy: LanePolicy): void {
    this.#policy = policy;
  }

  /** Sequences without a slot, those in host memory included. */
  get waiting(): number {
    return this.#waiting.size + this.#room.swapped;
  }

  /** Sequences that have a slot. */
  get running(): number {
    return this.#reading.size + this.#decoding.size;
  }

  get counts(): SchedulerCounts {
    return { ...this.#lanes.counts, ...this.#room.counts };
  }

  /** What has a slot, the load of the prompts that are not read yet, and that of a step which decodes all of it. */
  held(): { readonly works: readonly W[]; readonly prompts: StepLoad; readonly decode: StepLoad } {
    const works = [...this.#holders()];
    const unread = [...this.#reading].map((work) => ({ work, tokens: work.remainingTokens }));
    return { works, prompts: this.#composer.loadOf(unread, []), decode: this.#composer.loadOf([], works) };
  }

  /** Units that each lane has, or had in its last step. */
  get share(): Readonly<Record<Lane, number>> {
    return this.#lanes.share;
  }

  isBusy(lane: Lane): boolean {
    return this.#lanes.running[lane] !== null;
  }

  /** A new sequence, in phase `waiting`. */
  add(work: W): void {
    work.computedTokens = this.#memory.cachedTokens(work);
    this.#waiting.add(work);
  }

  /** A new sequence that goes on with KV in host memory. */
  addSwapped(work: W): void {
    this.#room.addSwapped(work);
  }

  /** A further choice of a request whose first one, `from`, has just read the prompt that they share. */
  fork(from: W, work: W): void {
    if (!this.#memory.fork(from, work)) {
      this.add(work);
      return;
    }
    work.phase = 'prefill';
    this.#reading.add(work);
  }

  /** The sequence has all its output, or nobody wants it. Its slot is free at once, or when its step or copy is done. */
  end(work: W): void {
    const { phase } = work;
    work.phase = 'ended';
    switch (phase) {
      case 'waiting':
        this.#waiting.remove(work);
        break;
      case 'prefill':
        this.#reading.remove(work);
        this.#releaseIfIdle(work);
        break;
      case 'decode':
        this.#decoding.delete(work);
        this.#releaseIfIdle(work);
        break;
      case 'swapped':
        this.#room.drop(work);
        break;
    }
  }

  /** The steps to start now. Their lanes are busy until `complete` or `fail`. */
  plan(nowMs: number): StepPlan<W>[] {
    const plans: StepPlan<W>[] = [];
    for (;;) {
      const { preemptions } = this.#room.counts;
      const found = this.#planOnce(nowMs);
      plans.push(...found);
      // Making room may have changed who could run: a lane that was left free is looked at again.
      if (found.length === 0 && this.#room.counts.preemptions === preemptions) break;
    }
    const following = this.#planAhead();
    if (following) plans.push(following);
    return plans;
  }

  /**
   * Whether the step that waits behind the running one should be taken back, if it has not begun: someone would take part in
   * it, or needs the device or memory, or a part of it is wanted no more. Then tell `withdrawn`, and plan again.
   */
  get isOutdated(): boolean {
    const { following } = this.#lanes;
    if (!following) return false;
    const { units, chunks } = following;
    return (
      this.#isSomethingLeftOut(units) || chunks.some(({ work }) => work.phase === 'ended' || work.paused)
    );
  }

  /** The step that waited is not going to run. */
  withdrawn(): void {
    this.#lanes.withdraw();
  }

  /**
   * The decode step behind the one that runs, if that is one: of the same sequences, as they will be. What is not known until
   * the running step is done, such as that a sequence has ended in it, is found out while this one runs. It takes no memory
   * from anyone, and leaves nobody out who would be in it otherwise.
   */
  #planAhead(): StepPlan<W> | null {
    const running = this.#lanes.running.decode;
    if (!this.#plansAhead || !running || this.#lanes.following) return null;
    if (running.load.prefillTokens > 0 || this.#isSomethingLeftOut(running.units)) return null;
    const going = running.plan.chunks
      .map(({ work }) => work)
      .filter(({ phase, paused, remainingOutput }) => phase === 'decode' && !paused && remainingOutput > 1);
    // Who waits is let in as soon as someone is known to end.
    if (going.length === 0 || (going.length < running.plan.chunks.length && this.waiting > 0)) return null;
    if (!going.every((work) => this.#memory.reserve(work, work.computedTokens + 2))) return null;
    const chunks = going.map((work) => ({ work, tokens: 1, isPrompt: false }));
    const plan: StepPlan<W> = { lane: 'decode', follows: true, units: running.units, chunks };
    this.#lanes.queue(plan);
    return plan;
  }

  /** Whether a next step on so many units would leave units idle, or a sequence that could run, or is short of memory. */
  #isSomethingLeftOut(units: number): boolean {
    const { prefill } = this.#lanes.running;
    if (units + (prefill?.units ?? 0) !== this.#lanes.units || this.#room.isShort) return true;
    for (const work of this.#decoding) if (this.#mayRun(work)) return true;
    if (prefill) return false;
    for (const work of this.#reading) if (this.#mayRun(work)) return true;
    return false;
  }

  #planOnce(nowMs: number): StepPlan<W>[] {
    if (this.#memory.packs) this.#pack();
    const { running } = this.#lanes;
    if (running.prefill && running.decode) return [];
    this.#room.bringBack();
    const prompts = running.prefill ? [] : this.#readyPrompts(nowMs);
    const decoding = running.decode
      ? []
      : this.#decoding.pick(this.#maxStepTokens, (work) => this.#mayRun(work));
    return this.#dispatcher.dispatch(this.#policy, nowMs, { prompts, decoding });
  }

  /**
   * The step is done. The sequences whose prompt it ended are handed to the decode lane; the caller then adds each
   * one's sampled token, and ends those that are complete.
   */
  complete(plan: StepPlan<W>, { seconds, opSeconds, nowMs }: StepOutcome): void {
    const ended = this.#end(plan);
    this.#lanes.count(ended);
    const goingOn = this.#lanes.worksIn(plan.lane);
    for (const { work, tokens } of plan.chunks) {
      work.inFlight = goingOn.has(work);
      const isReading = this.#reading.remove(work);
      // Of a sequence that has ended, the token may be one that nobody has seen.
      work.computedTokens = Math.min(work.computedTokens + tokens, work.tokenCount);
      if (work.phase === 'ended') this.#releaseIfIdle(work);
      else if (isReading) this.#afterChunk(work);
    }
    const { load, units, other } = ended;
    this.#policy.observe?.({
      lane: plan.lane,
      load,
      units,
      seconds,
      ...(opSeconds && { opSeconds }),
      other,
      nowMs,
    });
  }

  /** The step failed; nothing was added. The caller ends its sequences. */
  fail(plan: StepPlan<W>): void {
    this.#end(plan);
    const goingOn = this.#lanes.worksIn(plan.lane);
    for (const { work } of plan.chunks) {
      work.inFlight = goingOn.has(work);
      if (work.phase === 'ended') this.#releaseIfIdle(work);
    }
  }

  /** What was being packed is. */
  packed(work: W): void {
    if (work.phase === 'ended') this.#releaseIfIdle(work);
  }

  /** The copy to host memory is done; the slot is free. */
  swappedOut(work: W): void {
    this.#room.swappedOut(work);
  }

  /** The copy back is done. The sequence goes on with the tokens whose KV it lacks: at least the last one. */
  swappedIn(work: W): void {
    if (!this.#room.swappedIn(work)) return;
    work.phase = 'prefill';
    this.#reading.add(work);
  }

  /** Neither a step nor a conversion reads its pages. */
  #releaseIfIdle(work: W): void {
    if (!work.inFlight && !work.packing) this.#memory.release(work);
  }

  #mayRun(work: W): boolean {
    return !work.inFlight && !work.paused && !this.#memory.mustPack(work);
  }

  /** By rank: making room takes it from the last. */
  #pack(): void {
    const idle = [...this.#holders()].filter(({ inFlight, packing }) => !inFlight && !packing);
    for (const work of idle.sort((a, b) => (outranks(a, b) ? -1 : 1))) {
      if (work.phase === 'decode' || work.phase === 'prefill') this.#room.pack(work);
    }
  }

  /** The one place where a sequence passes from prefill to decode. */
  #afterChunk(work: W): void {
    if (work.computedTokens < work.tokenCount) {
      this.#reading.add(work);
      return;
    }
    work.phase = 'decode';
    this.#decoding.add(work);
  }

  #end(plan: StepPlan<W>): RunningStep<W> {
    return this.#lanes.end(plan, (following) => this.#composer.loadOfFollowing(following));
  }

  #readyPrompts(nowMs: number): W[] {
    const queues = { waiting: this.#waiting, reading: this.#reading };
    return readyPrompts(queues, this.#maxStepTokens, nowMs, this.#promptRules);
  }

  #start(work: W): boolean {
    if (!this.#room.admit(work)) return false;
    this.#waiting.remove(work);
    work.phase = 'prefill';
    this.#reading.add(work);
    // One that starts anew may find in the cache all that it may compute before.
    this.#room.pack(work);
    return true;
  }

  *#holders(): IterableIterator<W> {
    yield* this.#decoding;
    yield* this.#reading;
  }
}
