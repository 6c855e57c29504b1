import { type Device, type Step, type StepResult, Want } from './device/device.js';
import type { EngineParts } from './engine.js';
import { EngineError } from './errors.js';
import { blocksFor, mayStart } from './kv/admission.js';
import { PrefixCache } from './kv/prefix-cache.js';
import type { RequestState } from './request-state.js';
import { tokenLogprob } from './sampling/logprobs.js';
import { slotSampling } from './sampling/params.js';
import { type Chunk, planChunks } from './scheduler/chunks.js';
import { DecodeSet } from './scheduler/decode-set.js';
import { prefillUnits, takesTurns } from './scheduler/partition.js';
import { PrefillQueue } from './scheduler/prefill-queue.js';
import type { Sequence } from './sequence.js';
import { StepBuilder } from './step-builder.js';
import type { EngineStats } from './types.js';

type Phase = 'prefill' | 'decode';

/**
 * Keeps both lanes busy. It asks the scheduler who runs next and on what share, makes room in the KV pool, starts steps,
 * and turns their results into events. Sequences whose step is in flight are left alone until its result arrives.
 */
export class EngineLoop {
  readonly #parts: EngineParts;
  readonly #device: Device;
  readonly #cache: PrefixCache | undefined;
  readonly #queue = new PrefillQueue<Sequence>();
  readonly #decoding = new DecodeSet<Sequence>();
  readonly #freeSlots: number[];
  readonly #onEvents: (request: RequestState) => void;
  readonly #busy = { prefill: false, decode: false };
  readonly #steps = { prefill: 0, decode: 0 };
  readonly #busySeconds = { prefill: 0, decode: 0 };
  #units = 0;
  #lastPhase: Phase = 'decode';
  #promptTokens = 0;
  #generatedTokens = 0;
  #preemptions = 0;
  #repartitions = 0;
  #schedulerMs = 0;
  #finished = 0;
  #finishedMs = 0;
  #closing: (() => void) | undefined;

  constructor(parts: EngineParts, onEvents: (request: RequestState) => void) {
    this.#parts = parts;
    this.#device = parts.device;
    this.#onEvents = onEvents;
    this.#cache = parts.prefixCache
      ? new PrefixCache(this.#device.kv, this.#device.kv.pageTokens)
      : undefined;
    this.#freeSlots = Array.from(
      { length: this.#device.info.slots },
      (_, i) => this.#device.info.slots - 1 - i,
    );
    this.#units = this.#device.info.units;
    this.#device.partition(this.#units);
  }

  /** Requests of which nothing has run yet. */
  get waiting(): number {
    const requests = new Set<RequestState>();
    for (const sequence of this.#queue)
      if (Number.isNaN(sequence.request.startedMs)) requests.add(sequence.request);
    return requests.size;
  }

  /** Adds a request. Its first choice goes ahead; the others fork from it when its prompt has been read. */
  add(state: RequestState): void {
    this.#queue.add(state.sequences[0]!);
    this.wake();
  }

  end(state: RequestState): void {
    for (const sequence of state.sequences) this.#retire(sequence);
    this.wake();
  }

  /** Starts whatever can run now. */
  wake(): void {
    if (this.#closing) return;
    const begin = performance.now();
    if (takesTurns(this.#device.info.units)) {
      const first: Phase = this.#lastPhase === 'decode' ? 'prefill' : 'decode';
      for (const phase of [first, first === 'prefill' ? 'decode' : 'prefill'] as const) {
        if (!this.#busy.prefill && !this.#busy.decode) this.#start(phase);
      }
    } else {
      // Prefill first: it looks whether anyone decodes, and so leaves that lane its share.
      for (const phase of ['prefill', 'decode'] as const) if (!this.#busy[phase]) this.#start(phase);
    }
    this.#schedulerMs += performance.now() - begin;
  }

  /** When a place in the queue may have become free, from how long requests took lately. */
  retryAfterSeconds(): number {
    if (this.#finished === 0) return 1;
    const meanMs = this.#finishedMs / this.#finished;
    return Math.max(1, Math.ceil(meanMs / 1000));
  }

  async close(): Promise<void> {
    const idle = new Promise<void>((resolve) => {
      this.#closing = resolve;
    });
    this.#checkClosed();
    await idle;
  }

  stats(): EngineStats {
    const { kv, info } = this.#device;
    const units = this.#units;
    let running = this.#decoding.size;
    for (const sequence of this.#queue) if (sequence.phase === 'prefill') running++;
    return {
      running,
      waiting: this.waiting,
      slotsOpen: info.slots - this.#freeSlots.length,
      kvBlocksTotal: kv.totalBlocks,
      kvBlocksUsed: kv.totalBlocks - kv.freeBlocks(),
      kvBlockBytes: kv.blockBytes,
      cache: this.#cache?.stats() ?? { blocks: 0, hitTokens: 0, queriedTokens: 0, evictedBlocks: 0 },
      promptTokens: this.#promptTokens,
      generatedTokens: this.#generatedTokens,
      preemptions: this.#preemptions,
      steps: { ...this.#steps },
      laneBusySeconds: { ...this.#busySeconds },
      laneUnits: { prefill: units, decode: info.units - units },
      repartitions: this.#repartitions,
      schedulerSeconds: this.#schedulerMs / 1000,
    };
  }

  #start(phase: Phase): void {
    if (phase === 'prefill') this.#startPrefill();
    else this.#startDecode();
  }

  #startPrefill(): void {
    const now = this.#parts.now();
    const ready: Sequence[] = [];
    let blocked = false;
    for (const sequence of this.#queue.inOrder(now)) {
      if (sequence.request.paused) continue;
      // Of those that have no slot nobody passes the one in front, or short prompts would starve a long one of memory.
      if (sequence.phase === 'waiting' && !blocked) {
        do blocked = !this.#admit(sequence, now);
        while (blocked && this.#preemptPaused());
      }
      if (sequence.phase === 'prefill') ready.push(sequence);
    }
    const budget = this.#device.info.maxStepTokens;
    const chunks = planChunks(ready, budget, this.#device.kv.pageTokens)
      .filter((chunk) => chunk.work.phase === 'prefill' && this.#makeRoom(chunk))
      // Making room for a later one may have taken the place of an earlier one.
      .filter(({ work }) => work.phase === 'prefill');
    if (chunks.length === 0) return;
    const builder = new StepBuilder();
    for (const { work, tokens } of chunks) {
      const isLast = tokens === work.remainingTokens;
      const scores = work.choice === 0 && work.generatedTokens === 0 && work.request.promptScore;
      const wants =
        (scores ? Want.promptLogprobs : 0) | (isLast && work.remainingOutput > 0 ? Want.sample : 0);
      builder.prefill(work.slot, work.tokens.view(work.computedTokens, work.computedTokens + tokens), wants);
    }
    this.#run('prefill', builder.build(), chunks);
  }

  #startDecode(): void {
    const running = this.#decoding.pick(
      this.#device.info.maxStepTokens,
      (s) => !s.inFlight && !s.request.paused,
    );
    const chunks: Chunk<Sequence>[] = [];
    for (const work of running) {
      // An earlier one may have taken this one's place.
      if (work.phase === 'decode' && this.#makeRoom({ work, tokens: 1 })) chunks.push({ work, tokens: 1 });
    }
    const alive = chunks.filter(({ work }) => work.phase === 'decode');
    if (alive.length === 0) return;
    const builder = new StepBuilder();
    for (const { work } of alive) builder.decode(work.slot);
    this.#run('decode', builder.build(), alive);
  }

  #run(phase: Phase, step: Step, chunks: readonly Chunk<Sequence>[]): void {
    this.#busy[phase] = true;
    this.#lastPhase = phase;
    for (const { work } of chunks) work.inFlight = true;
    this.#share();
    this.#device[phase].run(step).then(
      (result) => this.#complete(phase, chunks, result),
      (error: Error) => this.#failStep(phase, chunks, error),
    );
  }

  /** Splits the device between the phases that have work, running or ready. */
  #share(): void {
    const { units } = this.#device.info;
    const prefill = takesTurns(units)
      ? units * Number(this.#busy.prefill)
      : prefillUnits(units, this.#busy.prefill, this.#busy.decode || this.#canDecode());
    if (prefill === this.#units) return;
    this.#units = prefill;
    this.#repartitions++;
    this.#device.partition(prefill);
  }

  #canDecode(): boolean {
    for (const sequence of this.#decoding) if (!sequence.request.paused) return true;
    return false;
  }

  /** Gives a waiting sequence a slot and its cached blocks, if memory allows. */
  #admit(sequence: Sequence, now: number): boolean {
    const slot = this.#freeSlots.at(-1);
    if (slot === undefined) return false;
    const { kv } = this.#device;
    const { request } = sequence.request;
    const path = sequence.request.promptScore ? [] : (this.#cache?.match(sequence.tokens.view()) ?? []);
    const demand = {
      tokens: sequence.tokens.length,
      sharedBlocks: path.length,
      maxNewTokens: sequence.remainingOutput,
    };
    const idleShared = path.filter((node) => node.users === 0).length;
    const supply = {
      freeBlocks: kv.freeBlocks(),
      evictableBlocks: (this.#cache?.evictableBlocks ?? 0) - idleShared,
    };
    if (!mayStart(demand, supply, kv.pageTokens, this.#freeSlots.length === this.#device.info.slots))
      return false;
    this.#open(sequence, this.#freeSlots.pop()!);
    if (path.length > 0)
      kv.attach(
        sequence.slot,
        Int32Array.from(path, (node) => node.block),
      );
    this.#cache?.use(path, sequence.tokens.length);
    sequence.path = path;
    sequence.computedTokens = path.length * kv.pageTokens;
    const state = sequence.request;
    if (Number.isNaN(state.startedMs)) {
      state.startedMs = now;
      state.cachedTokens = Math.min(sequence.computedTokens, request.prompt.length);
      this.#promptTokens += request.prompt.length;
    }
    return true;
  }

  #open(sequence: Sequence, slot: number): void {
    const { request } = sequence.request;
    const stops = new Set(request.stopTokenIds);
    if (!request.ignoreEos) for (const id of this.#parts.info.eosTokenIds) stops.add(id);
    const generated = sequence.tokens.view(sequence.promptTokens);
    this.#device.openSlot(slot, slotSampling(request, sequence.seed, stops, generated));
    sequence.slot = slot;
    sequence.phase = 'prefill';
  }

  /** Room for the chunk's tokens: from the free blocks, else from the cache, else from the youngest other sequence. */
  #makeRoom({ work, tokens }: Chunk<Sequence>): boolean {
    const { kv } = this.#device;
    const needed = work.computedTokens + tokens;
    while (!kv.reserve(work.slot, needed)) {
      const missing = blocksFor(needed, kv.pageTokens) - Math.floor(work.computedTokens / kv.pageTokens);
      if (this.#cache && this.#cache.evict(missing) > 0) continue;
      if (!this.#preemptPaused() && !this.#preemptYoungest(work)) return false;
    }
    return true;
  }

  /** Takes the slot of the sequence that started last, other than `keep`; it will be computed anew. */
  #preemptYoungest(keep: Sequence): boolean {
    let youngest: Sequence | undefined;
    for (const candidate of [...this.#decoding, ...this.#queue]) {
      if (candidate === keep || candidate.inFlight || candidate.slot < 0) continue;
      if (!youngest || isYounger(candidate, youngest)) youngest = candidate;
    }
    // An older one is never taken, so the oldest always gets on.
    if (!youngest || !isYounger(youngest, keep)) return false;
    this.#preempt(youngest);
    return true;
  }

  /** A reader that does not keep up must not hold a slot that someone else could use. */
  #preemptPaused(): boolean {
    for (const candidate of [...this.#decoding, ...this.#queue]) {
      if (!candidate.request.paused || candidate.inFlight || candidate.slot < 0) continue;
      this.#preempt(candidate);
      return true;
    }
    return false;
  }

  #preempt(sequence: Sequence): void {
    this.#preemptions++;
    this.#vacate(sequence);
    if (this.#decoding.delete(sequence)) this.#queue.add(sequence);
    sequence.phase = 'waiting';
    sequence.computedTokens = 0;
  }

  #complete(phase: Phase, chunks: readonly Chunk<Sequence>[], result: StepResult): void {
    const begin = performance.now();
    this.#busy[phase] = false;
    this.#steps[phase]++;
    this.#busySeconds[phase] += result.seconds;
    const now = this.#parts.now();
    chunks.forEach(({ work, tokens }, entry) => {
      work.inFlight = false;
      work.computedTokens += tokens;
      if (work.phase === 'ended') {
        this.#vacate(work);
        return;
      }
      const scored = result.promptLogprobs.get(entry);
      if (scored) {
        if (work.computedTokens === tokens) work.request.promptScore!.restart();
        work.request.promptScore!.add(
          work.tokens.view(work.computedTokens - tokens, work.computedTokens),
          scored,
        );
      }
      if (work.remainingTokens > 0) return;
      if (work.phase === 'prefill') this.#handOver(work);
      this.#accept(work, entry, result, now);
    });
    // Nothing else may start before these sequences are in order again.
    this.#schedulerMs += performance.now() - begin;
    this.wake();
    const delivery = performance.now();
    for (const { work } of chunks) this.#flush(work.request);
    this.#schedulerMs += performance.now() - delivery;
    this.#checkClosed();
  }

  /** The one place where a sequence passes from the prefill lane to the decode lane. */
  #handOver(sequence: Sequence): void {
    this.#queue.remove(sequence);
    sequence.phase = 'decode';
    this.#decoding.add(sequence);
    const state = sequence.request;
    if (state.promptScore && sequence.choice === 0 && sequence.generatedTokens === 0) {
      state.emit({ type: 'prompt', promptLogprobs: state.promptScore.scores() });
    }
    if (!state.promptScore) {
      this.#cache?.extend(sequence.path, sequence.slot, sequence.tokens.view(0, sequence.computedTokens));
    }
    if (sequence.choice === 0 && sequence.generatedTokens === 0) {
      for (const sibling of state.sequences.slice(1)) this.#fork(sequence, sibling);
    }
  }

  /** A further choice starts on the first one's prompt; only the prompt's last token is computed again, to sample. */
  #fork(source: Sequence, sibling: Sequence): void {
    if (sibling.phase === 'ended') return;
    this.#queue.add(sibling);
    const slot = this.#freeSlots.at(-1);
    if (slot === undefined) return;
    const shared = source.promptTokens - 1;
    this.#open(sibling, slot);
    if (!this.#device.kv.fork(source.slot, slot, shared)) {
      this.#device.closeSlot(slot);
      sibling.slot = -1;
      sibling.phase = 'waiting';
      return;
    }
    this.#freeSlots.pop();
    sibling.computedTokens = shared;
    sibling.path = source.path.slice(0, Math.floor(shared / this.#device.kv.pageTokens));
    this.#cache?.share(sibling.path);
  }

  #accept(sequence: Sequence, entry: number, result: StepResult, now: number): void {
    const { request, choice, stream } = sequence;
    if (sequence.remainingOutput <= 0) {
      this.#finish(sequence, { reason: 'length' }, now);
      return;
    }
    const token = result.tokens[entry]!;
    if (Number.isNaN(request.firstTokenMs)) request.firstTokenMs = now;
    sequence.tokens.push(token);
    request.completionTokens++;
    this.#generatedTokens++;
    const outcome = sequence.stops.next(
      token,
      (id) => stream.push(id),
      () => stream.end(),
    );
    const logprobs =
      request.request.logprobs < 0
        ? undefined
        : [
            tokenLogprob(
              this.#parts.tokenizer,
              token,
              result.logprobs[entry]!,
              result.topLogprobs.get(entry),
            ),
          ];
    request.emit({
      type: 'tokens',
      choice,
      text: outcome.text,
      tokens: [token],
      ...(logprobs && { logprobs }),
    });
    if (outcome.finish) this.#finish(sequence, outcome.finish, now);
  }

  #finish(
    sequence: Sequence,
    finish: { reason: 'stop' | 'length'; stoppedBy?: string | number },
    now: number,
  ): void {
    const { request, choice } = sequence;
    request.emit({ type: 'finish', choice, ...finish });
    this.#retire(sequence);
    if (request.sequences.every(({ phase }) => phase === 'ended')) {
      this.#finished++;
      this.#finishedMs += now - request.startedMs;
      request.finish();
    }
  }

  #retire(sequence: Sequence): void {
    this.#queue.remove(sequence);
    this.#decoding.delete(sequence);
    sequence.phase = 'ended';
    if (!sequence.inFlight) this.#vacate(sequence);
  }

  /** Frees the slot. What it computed stays in the cache for whoever asks the same. */
  #vacate(sequence: Sequence): void {
    if (sequence.slot < 0) return;
    if (!sequence.request.promptScore) {
      this.#cache?.extend(sequence.path, sequence.slot, sequence.tokens.view(0, sequence.computedTokens));
    }
    this.#device.closeSlot(sequence.slot);
    this.#cache?.release(sequence.path);
    sequence.path = [];
    this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }

  #failStep(phase: Phase, chunks: readonly Chunk<Sequence>[], error: Error): void {
    this.#busy[phase] = false;
    for (const { work } of chunks) {
      work.inFlight = false;
      if (work.phase === 'ended') this.#vacate(work);
    }
    for (const { work } of chunks) {
      work.request.fail(new EngineError('engine_failed', `The engine failed in a step: ${error.message}`));
      for (const sequence of work.request.sequences) this.#retire(sequence);
      this.#flush(work.request);
    }
    this.wake();
    this.#checkClosed();
  }

  #flush(state: RequestState): void {
    if (!state.hasEvents) return;
    state.flush();
    this.#onEvents(state);
  }

  #checkClosed(): void {
    if (this.#closing && !this.#busy.prefill && !this.#busy.decode) this.#closing();
  }
}

function isYounger(a: Sequence, b: Sequence): boolean {
  return a.arrivalMs === b.arrivalMs ? a.choice > b.choice : a.arrivalMs > b.arrivalMs;
}
