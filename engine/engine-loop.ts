import { acceptToken } from './accept-token.js';
import { AnswerLength } from './answer-length.js';
import { type Device, DeviceLostError, type FollowingStep, type StepResult } from './device/device.js';
import { EngineError } from './errors.js';
import type { PackingRule } from './kv/packing-rule.js';
import type { PartitionRule } from './kv/partition-rule.js';
import { PrefixCache } from './kv/prefix-cache.js';
import type { PressureRule } from './kv/pressure-rule.js';
import { SequenceMemory } from './kv/sequence-memory.js';
import type { ParkedKv } from './kv/session.js';
import type { SparsePrefill } from './kv/sparse-prefill.js';
import type { Tokenizer } from './model/text.js';
import type { Scheduling } from './open-scheduling.js';
import { type Probe, plannedStep } from './planned-step.js';
import type { RequestState } from './request-state.js';
import type { Explanation } from './scheduler/policy.js';
import type { PrefillOrder } from './scheduler/prefill-queue.js';
import { Scheduler } from './scheduler/scheduler.js';
import type { Chunk, StepPlan } from './scheduler/work.js';
import type { Sequence } from './sequence.js';
import { Totals } from './totals.js';
import type { EngineStats, SchedulerReport } from './types.js';

export interface LoopParts extends Scheduling {
  readonly device: Device;
  readonly tokenizer: Tokenizer;
  readonly prefixCache: boolean;
  /** Absent: all KV stays in the class that steps write. */
  readonly packing?: PackingRule | undefined;
  /** In place of that: sequences are packed when memory is short. */
  readonly pressure?: PressureRule | undefined;
  /** Absent: the rows of a prompt look everywhere. */
  readonly sparse?: SparsePrefill | undefined;
  /** In place of both: sequences may be of any length. */
  readonly partitions?: PartitionRule | undefined;
  /** Host memory for the KV of pre-empted sequences. */
  readonly swapBytes: number;
  readonly prefillOrder: PrefillOrder;
  /** Whether a decode step waits on the device for the one before it, so that the device does not wait for this thread. */
  readonly plansAhead?: boolean;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Called when a step has brought events for this request. */
  readonly onEvents: (request: RequestState) => void;
  /** Called when a step has shown that the device is gone. The loop does nothing from then on. */
  readonly onDeviceLost: (error: DeviceLostError) => void;
  /** Called with each choice between ways to share the device. */
  readonly onDecision?: (decision: Explanation) => void;
}

type Plan = StepPlan<Sequence>;

/**
 * Keeps both lanes busy: asks the scheduler what to run, turns its plans into steps of the device, and the steps' results
 * into events. Sequences whose step is in flight are left alone until its result arrives.
 */
export class EngineLoop {
  readonly #parts: LoopParts;
  readonly #device: Device;
  readonly #cache: PrefixCache | undefined;
  readonly #memory: SequenceMemory;
  readonly #scheduler: Scheduler<Sequence>;
  readonly #requests = new Set<RequestState>();
  readonly #totals = new Totals();
  #stepSeconds: Scheduling['stepSeconds'];
  readonly #answerLength = new AnswerLength();
  #reported: Explanation | undefined;
  #closing: (() => void) | undefined;
  #isLost = false;
  /** The decode step that waits for the running one to end, or has begun when that did. */
  #following: { readonly plan: Plan; readonly step: FollowingStep } | undefined;

  constructor(parts: LoopParts) {
    const { device, packing, pressure, partitions, prefixCache } = parts;
    this.#parts = parts;
    this.#device = device;
    this.#stepSeconds = parts.stepSeconds;
    // Packed blocks are shared by the choices of a request through the cache, even where it keeps nothing.
    this.#cache =
      prefixCache || packing || pressure
        ? new PrefixCache(device.kv, device.kv.pageTokens, prefixCache)
        : undefined;
    this.#memory = new SequenceMemory({
      device,
      cache: this.#cache,
      packing,
      pressure,
      sparse: parts.sparse,
      partitions,
      swapBytes: parts.swapBytes,
      onSwappedOut: (sequence) => {
        this.#scheduler.swappedOut(sequence);
        this.wake();
        this.#checkClosed();
      },
      onParked: () => {
        this.wake();
        this.#checkClosed();
      },
      onSwappedIn: (sequence) => {
        this.#scheduler.swappedIn(sequence);
        this.wake();
        this.#checkClosed();
      },
      onPacked: (sequence) => {
        this.#scheduler.packed(sequence);
        this.wake();
        this.#checkClosed();
      },
    });
    this.#scheduler = new Scheduler({
      memory: this.#memory,
      policy: parts.policy,
      order: parts.prefillOrder,
      units: device.info.units,
      maxStepTokens: device.info.maxStepTokens,
      plansAhead: parts.plansAhead ?? false,
    });
  }

  /** Requests of which nothing has run yet. */
  get waiting(): number {
    let waiting = 0;
    for (const request of this.#requests) if (Number.isNaN(request.startedMs)) waiting++;
    return waiting;
  }

  /** Adds a request. Its first choice goes ahead; the others fork from it when its prompt has been read. */
  add(state: RequestState): void {
    this.#requests.add(state);
    const [first] = state.sequences;
    const parked = state.session?.continueWith(first!);
    // A step that ran while the one before was cancelled may have computed all its tokens. A sequence goes on from what its
    // last token gives, so without a prompt that is computed anew.
    const isWhole = parked && parked.computedTokens === first!.tokenCount;
    if (parked && !isWhole) {
      this.#memory.swapped.unpark(first!, parked);
      this.#scheduler.addSwapped(first!);
    } else {
      if (parked) this.dropParked(parked);
      this.#scheduler.add(first!);
    }
    this.wake();
  }

  end(state: RequestState): void {
    this.#requests.delete(state);
    if (this.#isLost) return;
    for (const sequence of state.sequences) this.#scheduler.end(sequence);
    state.session?.checkFree();
    this.wake();
  }

  /** Nobody will go on with what was parked. */
  dropParked(parked: ParkedKv): void {
    if (!this.#isLost) this.#memory.swapped.dropParked(parked);
  }

  /** Starts whatever can run now. */
  wake(): void {
    if (this.#closing || this.#isLost) return;
    const begin = performance.now();
    do {
      for (const plan of this.#scheduler.plan(this.#parts.now())) {
        if (plan.follows) this.#follow(plan);
        else this.#run(plan);
      }
    } while (this.#withdrawOutdated());
    this.#totals.addScheduling(performance.now() - begin);
    this.#reportDecision();
  }

  /** True if there is something to be planned anew. */
  #withdrawOutdated(): boolean {
    if (!this.#scheduler.isOutdated || !this.#following!.step.withdraw()) return false;
    this.#following = undefined;
    this.#scheduler.withdrawn();
    return true;
  }

  /**
   * When a place in the queue is likely to be free: the prompts that have a slot are read, and the first of these sequences
   * has had its last token, by what the cost model foresees of steps and by how long answers were lately.
   */
  retryAfterSeconds(): number {
    const { works, prompts, decode } = this.#scheduler.held();
    const left = works.map((work) => this.#answerLength.leftOf(work));
    const tokens = Math.min(...left);
    if (!Number.isFinite(tokens)) return 1;
    return Math.max(1, Math.ceil(this.#stepSeconds(prompts) + tokens * this.#stepSeconds(decode)));
  }

  use({ policy, stepSeconds }: Scheduling): void {
    this.#stepSeconds = stepSeconds;
    this.#scheduler.usePolicy(policy);
    this.wake();
  }

  async close(): Promise<void> {
    if (this.#isLost) return;
    const idle = new Promise<void>((resolve) => {
      this.#closing = resolve;
    });
    this.#checkClosed();
    await idle;
  }

  stats(): Omit<EngineStats, 'images'> {
    const { kv } = this.#device;
    const scheduler = this.#scheduler;
    return {
      ...scheduler.counts,
      running: scheduler.running,
      waiting: this.waiting,
      slotsOpen: this.#memory.openSlots,
      kvBlocksTotal: kv.totalBlocks,
      kvBlocksUsed: kv.totalBlocks - kv.freeBlocks(),
      kvBlockBytes: kv.blockBytes,
      kvHeldBytes: kv.heldBytes(),
      kvPackedBlocks: this.#memory.packedBlocks,
      kvDroppedTokens: this.#memory.droppedTokens,
      ...(this.#memory.pages && { kvPages: this.#memory.pages }),
      kvSwappedBytes: this.#memory.swapped.bytes,
      kvFarBytes: (kv.farBlocks - kv.freeFarBlocks()) * kv.classBlockBytes.int4,
      cache: this.#memory.free.cacheStats,
      ...this.#totals.stats(this.#parts.now()),
      laneUnits: scheduler.share,
      ...(scheduler.policy.errorRatio !== undefined && {
        costModelErrorRatio: scheduler.policy.errorRatio,
      }),
    };
  }

  explain(): SchedulerReport {
    const { prefillOrder, constantsOrigin, device } = this.#parts;
    const { policy, running, share } = this.#scheduler;
    return {
      policy: policy.name,
      prefillOrder,
      constants: constantsOrigin,
      units: device.info.units,
      share,
      running,
      waiting: this.waiting,
      ...(policy.explanation && { decision: policy.explanation }),
    };
  }

  #reportDecision(): void {
    const { onDecision } = this.#parts;
    const { explanation } = this.#scheduler.policy;
    if (!onDecision || !explanation || explanation === this.#reported) return;
    this.#reported = explanation;
    onDecision(explanation);
  }

  #run(plan: Plan): void {
    const { lane, units } = plan;
    for (const { work } of plan.chunks) this.#noteStart(work.request, work);
    this.#totals.begin(plan, this.#parts.now());
    this.#device.partition(lane === 'prefill' ? units : this.#device.info.units - units);
    const { step, probes } = plannedStep(plan, this.#memory.sights);
    this.#device[lane].run(step).then(
      (result) => this.#complete(plan, probes, result),
      (error: Error) => this.#fail(plan, error),
    );
  }

  #follow(plan: Plan): void {
    const { decode, info } = this.#device;
    this.#device.partition(info.units - plan.units);
    const step = decode.follow!(Int32Array.from(plan.chunks, ({ work }) => work.slot));
    this.#following = { plan, step };
    step.result.then(
      (result) => {
        if (result) this.#complete(plan, [], result);
      },
      (error: Error) => this.#fail(plan, error),
    );
  }

  /** A step of the decode lane has ended, and what waited for that has begun. */
  #beginFollowing(now: number): void {
    if (this.#following) this.#totals.begin(this.#following.plan, now);
    this.#following = undefined;
  }

  #noteStart(state: RequestState, sequence: Sequence): void {
    if (!Number.isNaN(state.startedMs)) return;
    state.startedMs = this.#parts.now();
    state.cachedTokens = Math.min(sequence.computedTokens, sequence.promptTokens);
    this.#totals.addPrompt(sequence.promptTokens);
  }

  #complete(plan: Plan, probes: readonly Probe[], result: StepResult): void {
    if (this.#isLost) return;
    const begin = performance.now();
    const now = this.#parts.now();
    const { seconds, opSeconds } = result;
    this.#totals.end(plan.lane, now);
    if (plan.lane === 'decode') this.#beginFollowing(now);
    this.#totals.add(plan, result);
    probes.forEach(({ work, look }, index) => {
      if (work.phase !== 'ended') this.#memory.sights.saw(work, look, result.saliency[index]!);
    });
    this.#scheduler.complete(plan, { seconds, ...(opSeconds && { opSeconds }), nowMs: now });
    plan.chunks.forEach((chunk, entry) => {
      const { work } = chunk;
      if (work.phase === 'ended') return;
      if (chunk.isPrompt) this.#score(chunk, entry, result);
      if (work.phase !== 'decode') return;
      if (chunk.isPrompt) this.#afterPrompt(work);
      this.#accept(work, entry, result, now);
    });
    this.#totals.addScheduling(performance.now() - begin);
    // The next step first: what this one brought is delivered while it runs.
    this.wake();
    const delivery = performance.now();
    for (const { work } of plan.chunks) this.#flush(work.request);
    this.#totals.addScheduling(performance.now() - delivery);
    this.#checkClosed();
  }

  #score({ work, tokens }: Chunk<Sequence>, entry: number, result: StepResult): void {
    const scored = result.promptLogprobs.get(entry);
    if (!scored) return;
    const { promptScore } = work.request;
    const end = work.computedTokens;
    if (end === tokens) promptScore!.restart();
    promptScore!.add(work.tokens.view(end - tokens, end), scored);
  }

  /** A prompt has been read; its first token is about to be accepted. */
  #afterPrompt(sequence: Sequence): void {
    this.#memory.sharing.share(sequence);
    if (sequence.choice !== 0 || sequence.generatedTokens > 0) return;
    const state = sequence.request;
    if (state.promptScore) state.emit({ type: 'prompt', promptLogprobs: state.promptScore.scores() });
    for (const sibling of state.sequences.slice(1)) {
      if (sibling.phase === 'waiting') this.#scheduler.fork(sequence, sibling);
    }
  }

  #accept(sequence: Sequence, entry: number, result: StepResult, now: number): void {
    const { request } = sequence;
    if (sequence.remainingOutput <= 0) {
      this.#finish(sequence, { reason: 'length' });
      return;
    }
    if (Number.isNaN(request.firstTokenMs)) request.firstTokenMs = now;
    this.#totals.addGenerated();
    const finish = acceptToken(sequence, entry, result, this.#parts.tokenizer);
    if (finish) this.#finish(sequence, finish);
  }

  #finish(sequence: Sequence, finish: { reason: 'stop' | 'length'; stoppedBy?: string | number }): void {
    const { request, choice } = sequence;
    request.emit({ type: 'finish', choice, ...finish });
    this.#answerLength.add(sequence.generatedTokens);
    if (request.request.reportsKv) request.addKv(this.#memory.size.usageOf(sequence));
    this.#scheduler.end(sequence);
    if (request.sequences.every(({ phase }) => phase === 'ended')) {
      this.#requests.delete(request);
      request.finish();
    }
  }

  #fail(plan: Plan, error: Error): void {
    if (this.#isLost) return;
    if (error instanceof DeviceLostError) {
      this.#isLost = true;
      this.#parts.onDeviceLost(error);
      return;
    }
    const now = this.#parts.now();
    this.#totals.end(plan.lane, now);
    if (plan.lane === 'decode') this.#beginFollowing(now);
    this.#scheduler.fail(plan);
    for (const { work } of plan.chunks) {
      const state = work.request;
      state.fail(new EngineError('engine_failed', `The engine failed in a step: ${error.message}`));
      this.#requests.delete(state);
      for (const sequence of state.sequences) this.#scheduler.end(sequence);
      this.#flush(state);
    }
    this.wake();
    this.#checkClosed();
  }

  #flush(state: RequestState): void {
    if (!state.hasEvents) return;
    state.flush();
    this.#parts.onEvents(state);
  }

  #checkClosed(): void {
    const isBusy =
      this.#scheduler.isBusy('prefill') || this.#scheduler.isBusy('decode') || this.#memory.isCopying;
    if (!isBusy) this.#closing?.();
  }
}
