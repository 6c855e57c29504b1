import { mixedGrain, type PromptChunk, planChunks } from './chunks.js';
import { DecodeSet } from './decode-set.js';
import type { Memory } from './memory.js';
import type { Decision, InFlight, LanePolicy, Situation } from './policy.js';
import { isUrgent, type PrefillOrder, PrefillQueue, prefillScore } from './prefill-queue.js';
import { Room } from './room.js';
import { StepLoad } from './step-load.js';
import { type Chunk, type Lane, otherLane, type StepPlan, type Work } from './work.js';

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

/** A step that runs. */
interface Running<W> extends InFlight {
  readonly plan: StepPlan<W>;
  readonly other: InFlight | null;
}

/**
 * Who runs next, and on what share of the device. A state machine without a clock, I/O or timers: it is told what
 * happened (`add`, `complete`, `swappedOut`, ...), and `plan` says which steps to start now. The engine's loop, the
 * simulator and the property tests drive the same code.
 */
export class Scheduler<W extends Work> {
  readonly #memory: Memory<W>;
  #policy: LanePolicy;
  readonly #units: number;
  readonly #maxStepTokens: number;
  /** Without a slot. */
  readonly #waiting: PrefillQueue<W>;
  /** With a slot, their prompt partly read. */
  readonly #reading: PrefillQueue<W>;
  readonly #decoding = new DecodeSet<W>();
  readonly #room: Room<W>;
  readonly #plansAhead: boolean;
  /** Waits behind the decode step that runs. */
  #following: StepPlan<W> | null = null;
  readonly #limitOf = (work: W): number => this.#memory.stepLimit(work);
  readonly #running: Record<Lane, Running<W> | null> = { prefill: null, decode: null };
  readonly #steps = { prefill: 0, decode: 0 };
  /** Units of prefill in the last step that shared the device. */
  #share: number;
  #mixedSteps = 0;
  #repartitions = 0;

  constructor(options: SchedulerOptions<W>) {
    this.#memory = options.memory;
    this.#policy = options.policy;
    this.#units = options.units;
    this.#maxStepTokens = options.maxStepTokens;
    // What is packed is packed between two steps.
    this.#plansAhead = options.plansAhead === true && !options.memory.packs;
    this.#waiting = new PrefillQueue(options.order);
    this.#reading = new PrefillQueue(options.order);
    this.#share = options.units;
    this.#room = new Room(options.memory, {
      holders: () => this.#holders(),
      left: (work) => {
        this.#decoding.delete(work);
        this.#reading.remove(work);
      },
      mustStartAnew: (work) => this.add(work),
    });
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
    return {
      steps: { ...this.#steps },
      mixedSteps: this.#mixedSteps,
      repartitions: this.#repartitions,
      ...this.#room.counts,
    };
  }

  /** What has a slot, the load of the prompts that are not read yet, and that of a step which decodes all of it. */
  held(): { readonly works: readonly W[]; readonly prompts: StepLoad; readonly decode: StepLoad } {
    const works = [...this.#holders()];
    const unread = [...this.#reading].map((work) => ({ work, tokens: work.remainingTokens }));
    return { works, prompts: this.#loadOf(unread, []), decode: this.#loadOf([], works) };
  }

  /** Units that each lane has, or had in its last step. */
  get share(): Readonly<Record<Lane, number>> {
    return { prefill: this.#share, decode: this.#units - this.#share };
  }

  isBusy(lane: Lane): boolean {
    return this.#running[lane] !== null;
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
    if (!this.#following) return false;
    const { units, chunks } = this.#following;
    return (
      this.#isSomethingLeftOut(units) || chunks.some(({ work }) => work.phase === 'ended' || work.paused)
    );
  }

  /** The step that waited is not going to run. */
  withdrawn(): void {
    this.#following = null;
  }

  /**
   * The decode step behind the one that runs, if that is one: of the same sequences, as they will be. What is not known until
   * the running step is done, such as that a sequence has ended in it, is found out while this one runs. It takes no memory
   * from anyone, and leaves nobody out who would be in it otherwise.
   */
  #planAhead(): StepPlan<W> | null {
    const running = this.#running.decode;
    if (!this.#plansAhead || !running || this.#following) return null;
    if (running.load.prefillTokens > 0 || this.#isSomethingLeftOut(running.units)) return null;
    const going = running.plan.chunks
      .map(({ work }) => work)
      .filter(({ phase, paused, remainingOutput }) => phase === 'decode' && !paused && remainingOutput > 1);
    // Who waits is let in as soon as someone is known to end.
    if (going.length === 0 || (going.length < running.plan.chunks.length && this.waiting > 0)) return null;
    if (!going.every((work) => this.#memory.reserve(work, work.computedTokens + 2))) return null;
    const chunks = going.map((work) => ({ work, tokens: 1, isPrompt: false }));
    this.#following = { lane: 'decode', follows: true, units: running.units, chunks };
    return this.#following;
  }

  /** Whether a next step on so many units would leave units idle, or a sequence that could run, or is short of memory. */
  #isSomethingLeftOut(units: number): boolean {
    const { prefill } = this.#running;
    if (units + (prefill?.units ?? 0) !== this.#units || this.#room.isShort) return true;
    for (const work of this.#decoding) if (this.#mayRun(work)) return true;
    if (prefill) return false;
    for (const work of this.#reading) if (this.#mayRun(work)) return true;
    return false;
  }

  #planOnce(nowMs: number): StepPlan<W>[] {
    if (this.#memory.packs) this.#pack();
    if (this.#running.prefill && this.#running.decode) return [];
    this.#room.bringBack();
    const ready = this.#running.prefill ? [] : this.#readyPrompts(nowMs);
    const decoding = this.#running.decode
      ? []
      : this.#decoding.pick(this.#maxStepTokens, (work) => this.#mayRun(work));
    if (ready.length === 0 && decoding.length === 0) return [];
    const situation = this.#situation(nowMs, ready, decoding);
    return this.#follow(this.#policy.decide(situation), ready, decoding);
  }

  /**
   * The step is done. The sequences whose prompt it ended are handed to the decode lane; the caller then adds each
   * one's sampled token, and ends those that are complete.
   */
  complete(plan: StepPlan<W>, { seconds, opSeconds, nowMs }: StepOutcome): void {
    const { load, units, other } = this.#free(plan);
    this.#steps[plan.lane]++;
    if (load.prefillTokens > 0 && load.decodeSequences > 0) this.#mixedSteps++;
    const goingOn = this.#inStep(plan.lane);
    for (const { work, tokens } of plan.chunks) {
      work.inFlight = goingOn.has(work);
      const isReading = this.#reading.remove(work);
      // Of a sequence that has ended, the token may be one that nobody has seen.
      work.computedTokens = Math.min(work.computedTokens + tokens, work.tokenCount);
      if (work.phase === 'ended') this.#releaseIfIdle(work);
      else if (isReading) this.#afterChunk(work);
    }
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
    this.#free(plan);
    const goingOn = this.#inStep(plan.lane);
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

  /** The oldest first: making room takes it from the youngest. */
  #pack(): void {
    const idle = [...this.#holders()].filter(({ inFlight, packing }) => !inFlight && !packing);
    for (const work of idle.sort((a, b) => a.serial - b.serial)) {
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

  #free(plan: StepPlan<W>): Running<W> {
    const running = this.#running[plan.lane];
    if (running?.plan !== plan) throw new Error(`the ${plan.lane} lane does not run this step`);
    this.#running[plan.lane] = plan.lane === 'decode' ? this.#begin(this.#following) : null;
    return running;
  }

  /** The step that waited has begun. */
  #begin(plan: StepPlan<W> | null): Running<W> | null {
    this.#following = null;
    if (!plan) return null;
    const { prefill } = this.#running;
    const load = new StepLoad();
    for (const { work } of plan.chunks) {
      // The step before it is not counted yet.
      load.addDecode(this.#memory.contextOf(work) + 2, this.#memory.kvBytesPerToken(work));
    }
    const other = prefill && { load: prefill.load, units: prefill.units };
    return { plan, load, units: plan.units, other };
  }

  #inStep(lane: Lane): ReadonlySet<W> {
    return new Set(this.#running[lane]?.plan.chunks.map(({ work }) => work));
  }

  /**
   * Prompts to read next, in order. A waiting one is started when its turn comes before a step is full, and memory
   * allows. Of those that wait nobody passes the one in front, or short prompts would starve a long one of memory.
   */
  #readyPrompts(nowMs: number): W[] {
    const ready: W[] = [];
    const reading = this.#readingInOrder(nowMs);
    let isOpen = true;
    let tokens = 0;
    for (let next = 0; ; ) {
      const work = reading[next];
      const waiting =
        isOpen && tokens < this.#maxStepTokens
          ? this.#waiting.first(nowMs, (candidate) => !candidate.paused)
          : undefined;
      if (waiting && (!work || this.#goesBefore(waiting, work, nowMs))) {
        isOpen = this.#start(waiting);
        if (isOpen && this.#mayRun(waiting)) {
          ready.push(waiting);
          tokens += waiting.remainingTokens;
        }
        continue;
      }
      if (!work) break;
      ready.push(work);
      tokens += work.remainingTokens;
      next++;
    }
    // Making room for one may have taken the slot of another.
    return ready.filter(({ phase }) => phase === 'prefill');
  }

  #readingInOrder(nowMs: number): W[] {
    const ready: W[] = [];
    const urgent: W[] = [];
    for (const work of this.#reading) {
      if (!this.#mayRun(work)) continue;
      (isUrgent(work, nowMs) ? urgent : ready).push(work);
    }
    return urgent.length > 0 ? [...urgent, ...ready] : ready;
  }

  #goesBefore(a: W, b: W, nowMs: number): boolean {
    const urgency = Number(isUrgent(b, nowMs)) - Number(isUrgent(a, nowMs));
    if (urgency !== 0) return urgency < 0;
    const { order } = this.#waiting;
    return prefillScore(a, order) < prefillScore(b, order);
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

  #situation(nowMs: number, ready: readonly W[], decoding: readonly W[]): Situation {
    let prefillTokens = 0;
    let oldest: W | undefined;
    for (const work of ready) {
      prefillTokens += work.remainingTokens;
      if (!oldest || work.arrivalMs < oldest.arrivalMs) oldest = work;
    }
    return {
      nowMs,
      units: this.#units,
      decode: decoding.length === 0 ? null : this.#loadOf([], decoding),
      prefill:
        ready.length === 0
          ? null
          : (tokens) => this.#loadOf(planChunks(ready, tokens, mixedGrain, this.#limitOf), []),
      prefillTokens,
      oldestWaitMs: oldest ? nowMs - oldest.arrivalMs : 0,
      oldestTokens: oldest?.tokenCount ?? 0,
      maxStepTokens: this.#maxStepTokens,
      kvUsage: this.#memory.usage(),
      inFlight: this.#running,
    };
  }

  #follow(decision: Decision, ready: readonly W[], decoding: readonly W[]): StepPlan<W>[] {
    const plans: StepPlan<W>[] = [];
    const isIdle = !this.#running.prefill && !this.#running.decode;
    if (decision.mode === 'split') {
      this.#startLane('prefill', decision.prefillUnits, ready, decision.chunkTokens, [], plans);
      this.#startLane('decode', this.#units - decision.prefillUnits, [], 0, decoding, plans);
    } else if (decision.mode === 'mixed') {
      // While a step of the prefill lane ends, decode goes on with what that leaves.
      const prompts = isIdle ? ready : [];
      this.#startLane('decode', this.#units, prompts, decision.chunkTokens, decoding, plans);
    } else if (isIdle) {
      if (decision.phase === 'prefill') {
        this.#startLane('prefill', this.#units, ready, decision.chunkTokens, [], plans);
      }
      // Also where nothing could be read after all, for lack of memory.
      if (plans.length === 0) this.#startLane('decode', this.#units, [], 0, decoding, plans);
    }
    return plans;
  }

  /**
   * Starts a step on a free lane. Decode takes what is free of the units it should have; prefill, whose steps are long,
   * rather waits for a decode step to end than read a chunk on less.
   */
  #startLane(
    lane: Lane,
    wantedUnits: number,
    ready: readonly W[],
    chunkTokens: number,
    decoding: readonly W[],
    plans: StepPlan<W>[],
  ): void {
    const other = this.#running[otherLane(lane)];
    const free = this.#units - (other?.units ?? 0);
    const units = Math.min(wantedUnits, free);
    if (this.#running[lane] || units <= 0 || (lane === 'prefill' && units < wantedUnits)) return;
    const chunks = this.#chunksFor(ready, chunkTokens, decoding);
    if (chunks.length === 0) return;
    const plan: StepPlan<W> = { lane, units, chunks };
    for (const { work } of chunks) work.inFlight = true;
    const load = this.#loadOf(
      chunks.filter(({ isPrompt }) => isPrompt),
      chunks.filter(({ isPrompt }) => !isPrompt).map(({ work }) => work),
    );
    this.#running[lane] = { plan, load, units, other: other && { load: other.load, units: other.units } };
    const share = lane === 'prefill' ? units : this.#units - units;
    if (share !== this.#share) this.#repartitions++;
    this.#share = share;
    plans.push(plan);
  }

  /** Parts of a step for which there is room. Oldest first: making room takes it from the youngest. */
  #chunksFor(ready: readonly W[], chunkTokens: number, decoding: readonly W[]): Chunk<W>[] {
    const chunks: Chunk<W>[] = [];
    for (const work of decoding) {
      // An earlier one may have taken this one's place.
      if (work.phase === 'decode' && this.#room.make(work, 1))
        chunks.push({ work, tokens: 1, isPrompt: false });
    }
    const grain = decoding.length > 0 ? mixedGrain : this.#memory.pageTokens;
    const budget = Math.min(chunkTokens, this.#maxStepTokens - chunks.length);
    const hasRoom = (work: W, tokens: number) => work.phase === 'prefill' && this.#room.make(work, tokens);
    for (const { work, tokens } of planChunks(ready, budget, grain, this.#limitOf, hasRoom)) {
      chunks.push({ work, tokens, isPrompt: true });
    }
    return chunks.filter(({ work }) => work.phase === 'decode' || work.phase === 'prefill');
  }

  #loadOf(prompts: readonly PromptChunk<W>[], decoding: readonly W[]): StepLoad {
    const load = new StepLoad();
    for (const { work, tokens } of prompts) {
      const endsPrompt = tokens === work.remainingTokens;
      load.addChunk(tokens, this.#memory.contextOf(work), this.#memory.kvBytesPerToken(work), endsPrompt);
    }
    for (const work of decoding) {
      load.addDecode(this.#memory.contextOf(work) + 1, this.#memory.kvBytesPerToken(work));
    }
    return load;
  }

  *#holders(): IterableIterator<W> {
    yield* this.#decoding;
    yield* this.#reading;
  }
}
