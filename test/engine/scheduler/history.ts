import { PackingRule } from '../../../engine/kv/packing-rule.js';
import { uniform } from '../../../engine/kv/page-classes.js';
import { openPolicy, type PolicyName, policyNames } from '../../../engine/scheduler/open-policy.js';
import type { Predictor } from '../../../engine/scheduler/partition.js';
import type { LanePolicy } from '../../../engine/scheduler/policy.js';
import type { PrefillOrder } from '../../../engine/scheduler/prefill-queue.js';
import { Scheduler } from '../../../engine/scheduler/scheduler.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import type { StepLoad } from '../../../engine/scheduler/step-load.js';
import type { StepPlan } from '../../../engine/scheduler/work.js';
import { CountedMemory, CountedWork, must } from './counted-memory.js';

type Plan = StepPlan<CountedWork>;

/** Seconds of a step: a read of the weights, or arithmetic by rows and pairs, on so many of `units`. */
function seconds(load: StepLoad, share: number): number {
  const memory = 0.01 + load.decodeKvBytes * 1e-10;
  const compute = (load.rows * 2e-4 + load.prefillPairs * 1e-8) / share;
  return load.isEmpty ? 0 : Math.max(memory / Math.min(1, 1.5 * share), compute);
}

export function simplePredictor(units: number): Predictor {
  return {
    alone: (load, given) => seconds(load, given / units),
    together: (prefill, decode, prefillUnits, out) => {
      out.prefill = 1.1 * seconds(prefill, prefillUnits / units);
      out.decode = 1.1 * seconds(decode, 1 - prefillUnits / units);
    },
  };
}

export interface HistoryOptions {
  readonly seed: number;
  readonly policy: PolicyName;
  readonly order: PrefillOrder;
  readonly events: number;
  /** Whether KV is packed, or squeezed when memory is short. */
  readonly packs?: boolean;
  readonly squeezes?: boolean;
  /** Whether the policy changes while sequences run. */
  readonly changesPolicy?: boolean;
}

/** Mulberry32: small, seeded, even enough to choose events by. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/**
 * A random history of one scheduler: requests with one to three choices that come, pause, are cancelled, run out of
 * memory and fail, until all have ended. After each event whatever must always hold is checked.
 */
export class History {
  readonly memory: CountedMemory;
  readonly scheduler: Scheduler<CountedWork>;
  readonly units: number;
  readonly #below: (below: number) => number;
  readonly #maxStepTokens: number;
  readonly #running: Plan[] = [];
  /** Waits for the decode lane's step, or has begun when that ended, which the scheduler is yet to be told. */
  #following: { readonly plan: Plan; hasBegun: boolean } | undefined;
  readonly #live = new Set<CountedWork>();
  readonly #siblings = new Map<CountedWork, CountedWork[]>();
  readonly #ends = new Map<CountedWork, number>();
  #nowMs = 0;
  #serial = 0;
  steps = 0;
  /** Steps that were planned to follow another. */
  followed = 0;

  constructor(private readonly options: HistoryOptions) {
    this.#below = randomOf(options.seed);
    this.units = [1, 2, 3, 8, 132][this.#below(5)]!;
    this.#maxStepTokens = 64 << this.#below(4);
    const rule = options.packs ? new PackingRule(uniform('int4'), 32 * (1 + this.#below(4)), 32) : undefined;
    this.memory = new CountedMemory(
      1 + this.#below(12),
      24 + this.#below(100),
      this.#below(3) * 20,
      rule,
      options.squeezes,
    );
    this.scheduler = new Scheduler({
      memory: this.memory,
      policy: this.#open(options.policy),
      order: options.order,
      units: this.units,
      maxStepTokens: this.#maxStepTokens,
      plansAhead: options.seed % 4 > 0,
    });
  }

  run(): void {
    for (let event = 0; event < this.options.events; event++) this.#happen();
    for (const work of this.#live) work.paused = false;
    // What is left must end by itself: each step brings at least one sequence on.
    for (let round = 0; this.#live.size > 0; round++) {
      must(round < 100_000, 'everything ends');
      this.#plan();
      must(this.#isWaitingForSomething(), 'work is left, so something runs');
      this.#endSomething();
    }
    // Steps and copies of sequences that nobody wants any more.
    while (this.#isWaitingForSomething()) this.#endSomething();
    must(this.memory.held.size === 0, 'no slot is left open');
    must(this.memory.swapped.size === 0, 'nothing is left in host memory');
    must(this.scheduler.running === 0 && this.scheduler.waiting === 0, 'the scheduler knows nobody');
    must(this.#ends.size === this.#serial, 'every sequence has ended');
    for (const times of this.#ends.values()) must(times === 1, 'a sequence ends once');
  }

  #happen(): void {
    this.#nowMs += this.#below(50);
    const event = this.#below(20);
    if (event < 5) this.#arrive();
    else if (event === 5) this.#cancel();
    else if (event === 6) this.#pauseOrResume();
    else if (event === 7 && this.#running.length > 0) this.#fail();
    else if (event === 8 && this.options.changesPolicy) {
      this.scheduler.usePolicy(this.#open(policyNames[this.#below(policyNames.length)]!));
    } else this.#endSomething();
    this.#plan();
  }

  #open(policy: PolicyName): LanePolicy {
    const settings = { decodeSlack: 1.2, prefillShare: 0.5, budgetTokens: this.#maxStepTokens };
    const splits = splitsOf(this.units, this.units > 8 ? 8 : 1);
    return openPolicy(policy, settings, splits, simplePredictor(this.units));
  }

  #arrive(): void {
    // At most what the whole memory holds: longer ones are refused before they get here.
    const capacity = (this.memory.pages - this.memory.packRoom) * this.memory.pageTokens;
    const prompt = 1 + this.#below(Math.min(capacity - 20, this.#below(4) === 0 ? 1500 : 200));
    const output = 1 + this.#below(Math.min(60, capacity - prompt));
    const priority = this.#below(4) === 0 ? this.#below(3) - 1 : 0;
    const deadline = this.#below(10) === 0 ? this.#nowMs + this.#below(3000) : Number.POSITIVE_INFINITY;
    const choices = Array.from(
      { length: this.#below(6) === 0 ? 3 : 1 },
      () => new CountedWork(this.#serial++, this.#nowMs, prompt, output, priority, deadline),
    );
    for (const work of choices) this.#live.add(work);
    this.#siblings.set(choices[0]!, choices.slice(1));
    this.scheduler.add(choices[0]!);
  }

  #cancel(): void {
    const work = this.#pickLive();
    if (!work) return;
    const waitingSiblings = this.#siblings.get(work) ?? [];
    this.#siblings.delete(work);
    for (const sibling of waitingSiblings) this.#end(sibling);
    this.#end(work);
  }

  #pauseOrResume(): void {
    const work = this.#pickLive();
    if (work) work.paused = !work.paused;
  }

  #fail(): void {
    const [plan] = this.#running.splice(this.#below(this.#running.length), 1);
    this.#failStep(plan!);
    // What was to follow it fails with it.
    if (plan!.lane === 'decode' && this.#beginFollowing()) this.#failStep(this.#running.pop()!);
  }

  #failStep(plan: Plan): void {
    this.scheduler.fail(plan);
    for (const { work } of plan.chunks) {
      for (const sibling of this.#siblings.get(work) ?? []) this.#end(sibling);
      this.#siblings.delete(work);
      if (work.phase !== 'ended') this.#end(work);
    }
  }

  #beginFollowing(): boolean {
    if (!this.#following) return false;
    this.#running.push(this.#following.plan);
    this.#following = undefined;
    return true;
  }

  #endSomething(): void {
    const { leaving, returning, converting } = this.memory;
    const copies = leaving.length + returning.length;
    const all = this.#running.length + copies + converting.length;
    if (all === 0) return;
    const chosen = this.#below(all) - this.#running.length;
    if (chosen < 0) {
      this.#complete(this.#running.splice(this.#running.length + chosen, 1)[0]!);
    } else if (chosen < copies) {
      this.#endCopy();
    } else {
      const work = converting[chosen - copies]!;
      this.memory.endConversion(work);
      this.scheduler.packed(work);
    }
  }

  #endCopy(): void {
    const [out] = this.memory.leaving;
    if (out) {
      this.memory.endSwapOut(out);
      this.scheduler.swappedOut(out);
      return;
    }
    const [back] = this.memory.returning;
    if (!back) return;
    this.memory.endSwapIn(back);
    this.scheduler.swappedIn(back);
  }

  #complete(plan: Plan): void {
    this.steps++;
    const before = plan.chunks.map(({ work }) => work.computedTokens);
    this.#nowMs += 10;
    this.scheduler.complete(plan, { seconds: 0.01, nowMs: this.#nowMs });
    if (plan.lane === 'decode') this.#beginFollowing();
    plan.chunks.forEach(({ work, tokens, isPrompt }, index) => {
      if (work.phase === 'ended') return;
      must(work.computedTokens === before[index]! + tokens, 'a step adds its tokens');
      if (work.phase !== 'decode') return;
      if (isPrompt) this.#forkFrom(work);
      work.generated++;
      // By a stop that nobody could foresee, or at its length.
      if (this.#below(40) === 0 || work.remainingOutput === 0) this.#end(work);
    });
  }

  #forkFrom(work: CountedWork): void {
    for (const sibling of this.#siblings.get(work) ?? []) this.scheduler.fork(work, sibling);
    this.#siblings.delete(work);
  }

  #end(work: CountedWork): void {
    this.scheduler.end(work);
    this.#live.delete(work);
    this.#ends.set(work, (this.#ends.get(work) ?? 0) + 1);
  }

  #plan(): void {
    do {
      for (const plan of this.scheduler.plan(this.#nowMs)) {
        this.#checkPlan(plan);
        if (plan.follows) this.#checkFollowing(plan);
        else this.#running.push(plan);
      }
    } while (this.#withdrawOutdated());
    this.#checkAlways();
    // Who has planned all there was to plan has nothing more to plan.
    must(this.scheduler.plan(this.#nowMs).length === 0, 'a second plan finds nothing');
  }

  #withdrawOutdated(): boolean {
    const following = this.#following;
    if (!following || !this.scheduler.isOutdated) return false;
    following.hasBegun ||= this.#below(3) === 0;
    if (following.hasBegun) return false;
    this.#following = undefined;
    this.scheduler.withdrawn();
    return true;
  }

  #checkFollowing(plan: Plan): void {
    const running = this.#running.find(({ lane }) => lane === 'decode');
    must(running !== undefined && !this.#following, 'one step follows one that runs');
    const before = new Set(running!.chunks.map(({ work }) => work));
    for (const { work } of plan.chunks) {
      must(before.has(work) && work.inFlight, 'who goes on is in the step before');
      must(work.remainingOutput > 1, 'nobody goes on beyond its length');
      const room = this.memory.held.get(work)! * this.memory.pageTokens;
      must(work.computedTokens + 2 <= room, 'there is room for both tokens');
    }
    must(!this.scheduler.isOutdated, 'what is planned now is not outdated');
    this.#following = { plan, hasBegun: false };
    this.followed++;
  }

  #checkPlan({ chunks, units }: Plan): void {
    must(units > 0 && chunks.length > 0, 'a step has units and work');
    let tokens = 0;
    for (const chunk of chunks) {
      must(
        chunk.tokens > 0 && chunk.tokens <= chunk.work.remainingTokens,
        'a chunk is a part of what is left',
      );
      must(chunk.isPrompt || chunk.tokens === 1, 'decode adds one token');
      must(!chunk.work.paused, 'nobody who is paused runs');
      this.#checkPacked(chunk.work, chunk.tokens);
      const room = this.memory.held.get(chunk.work)! * this.memory.pageTokens;
      must(chunk.work.computedTokens + chunk.tokens <= room, 'there is room');
      tokens += chunk.tokens;
    }
    must(tokens <= this.#maxStepTokens, 'a step keeps its size');
  }

  /** What it is computed behind follows from its place in the sequence alone. */
  #checkPacked({ promptTokens, computedTokens, packedPages }: CountedWork, tokens: number): void {
    const { rule, pageTokens } = this.memory;
    if (!rule) return;
    for (const position of [computedTokens, computedTokens + tokens - 1]) {
      must(rule.packedAt(promptTokens, position) === packedPages * pageTokens, 'a token sees what it should');
    }
  }

  #checkAlways(): void {
    must(this.memory.used <= this.memory.pages, 'KV stays within its memory');
    must(this.memory.held.size <= this.memory.slots, 'there are as many slots as there are');
    const inFlight = this.#running.flatMap(({ chunks }) => chunks.map(({ work }) => work));
    must(new Set(inFlight).size === inFlight.length, 'a sequence is in one step');
    for (const work of inFlight)
      must(work.inFlight && this.memory.held.has(work), 'its slot stays meanwhile');
    must(
      new Set(this.#running.map(({ lane }) => lane)).size === this.#running.length,
      'a lane runs one step',
    );
    const units = this.#running.reduce((sum, plan) => sum + plan.units, 0);
    must(units <= this.units, 'a unit has one owner');
    // Work conservation: with work that is not paused, something runs or is being copied.
    const couldRun = [...this.#live].some(
      (work) => !work.paused && (work.phase !== 'waiting' || this.#siblings.has(work)),
    );
    if (couldRun) must(this.#isWaitingForSomething(), 'with work to do something runs');
  }

  #isWaitingForSomething(): boolean {
    const { leaving, returning, converting } = this.memory;
    return this.#running.length + leaving.length + returning.length + converting.length > 0;
  }

  #pickLive(): CountedWork | undefined {
    const firsts = [...this.#live].filter((work) => work.phase !== 'waiting' || this.#siblings.has(work));
    return firsts[this.#below(firsts.length)];
  }
}
