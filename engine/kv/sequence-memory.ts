import type { BornClass, Device } from '../device/device.js';
import { slotSampling } from '../sampling/params.js';
import type { Memory, Squeezable } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import type { KvUsage } from '../types.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { FreeMemory } from './free-memory.js';
import { type Continuation, KeptSequences } from './kept-sequences.js';
import type { PackingRule } from './packing-rule.js';
import { byRule, underPressure } from './packing-schedule.js';
import { classesOf, decidesByAttention, type PackedForm } from './page-classes.js';
import { type LayerPages, PageCounts } from './page-counts.js';
import type { PartitionRule } from './partition-rule.js';
import type { CacheNode, PrefixCache } from './prefix-cache.js';
import type { PressureRule, Squeeze } from './pressure-rule.js';
import { tailProbes } from './probes.js';
import { SequencePacking } from './sequence-packing.js';
import { SequencePartitions } from './sequence-partitions.js';
import { Sights } from './sights.js';
import type { SparsePrefill } from './sparse-prefill.js';
import { SwappedSequences } from './swapped-sequences.js';

export interface SequenceMemoryOptions {
  readonly device: Device;
  readonly cache: PrefixCache | undefined;
  /** Absent: sequences stay in the class that steps write. Packed blocks are shared by the cache, so it needs one. */
  readonly packing: PackingRule | undefined;
  /** In place of that: sequences are packed when memory is short. */
  readonly pressure: PressureRule | undefined;
  /** Absent: the rows of a prompt look everywhere. */
  readonly sparse: SparsePrefill | undefined;
  /** In place of both: sequences of any length are held in a bounded number of blocks. */
  readonly partitions: PartitionRule | undefined;
  readonly eosTokenIds: readonly number[];
  /** Bytes of host memory for the KV of pre-empted sequences. */
  readonly swapBytes: number;
  readonly onSwappedOut: (sequence: Sequence) => void;
  /** What an ended sequence has computed is kept for its session, or could not be; its slot is free. */
  readonly onParked: () => void;
  readonly onSwappedIn: (sequence: Sequence) => void;
  readonly onPacked: (sequence: Sequence) => void;
}

/** The slots and the KV pool of a device, with the prefix cache over it, as the scheduler asks for them. */
export class SequenceMemory implements Memory<Sequence> {
  readonly pageTokens: number;
  /** Where sequences look. */
  readonly sights: Sights;
  /** What can be had of the KV memory. */
  readonly free: FreeMemory;
  /** What lies in host memory. */
  readonly swapped: SwappedSequences;
  readonly #device: Device;
  readonly #cache: PrefixCache | undefined;
  readonly #options: SequenceMemoryOptions;
  readonly #freeSlots: number[];
  /** What pages are packed into where attention decides on it. */
  readonly #form: PackedForm | undefined;
  readonly #compression: Compression | undefined;
  readonly #packing: SequencePacking | undefined;
  readonly #partitions: SequencePartitions | undefined;
  /** Absent where sequences are not held in partitions, or nothing is kept for others. */
  readonly #kept: KeptSequences | undefined;

  constructor(options: SequenceMemoryOptions) {
    const { kv, info } = options.device;
    this.#options = options;
    this.#device = options.device;
    this.#cache = options.cache;
    this.pageTokens = kv.pageTokens;
    const { cache, packing, pressure, partitions, onPacked } = options;
    const { layers } = info.spec;
    const schedule = packing ? byRule(packing) : pressure && underPressure(pressure);
    if (schedule && !cache) throw new Error('packed sequences share their blocks through a prefix cache');
    const share = (sequence: Sequence) => this.share(sequence);
    const vacate = (blocks: number) => this.free.vacate(blocks);
    if (schedule && cache) {
      const partitions = pressure?.partitions;
      this.#packing = new SequencePacking({
        kv,
        layers,
        cache,
        schedule,
        partitions,
        share,
        vacate,
        onPacked,
      });
    }
    if (partitions && cache) this.#kept = new KeptSequences(kv, partitions, (path) => cache.leave(path));
    this.free = new FreeMemory(kv, cache, this.#kept);
    this.swapped = new SwappedSequences(kv, options.swapBytes);
    if (partitions) {
      const rule = partitions;
      this.#partitions = new SequencePartitions({ kv, layers, rule, cache, share, vacate, onPacked });
    }
    this.#form = chosenForm(packing, pressure);
    this.sights = new Sights({
      layers,
      pageTokens: this.pageTokens,
      form: this.#form,
      sparse: options.sparse,
      partitions: pressure?.partitions,
    });
    this.#compression = this.#packing ?? this.#partitions;
    this.#freeSlots = Array.from({ length: info.slots }, (_, i) => info.slots - 1 - i);
  }

  get openSlots(): number {
    return this.#device.info.slots - this.#freeSlots.length;
  }

  /** Whether a copy to or from host memory, or a conversion, runs: the device must not be closed. */
  get isCopying(): boolean {
    return this.swapped.copies > 0 || (this.#compression?.running ?? 0) > 0;
  }

  /** Blocks that were packed, since the start. */
  get packedBlocks(): number {
    return this.#compression?.convertedBlocks ?? 0;
  }

  /** Tokens that sequences have given up, since the start. */
  get droppedTokens(): number {
    return this.#compression?.droppedTokens ?? 0;
  }

  /** Pages that were packed, by layer; undefined where all of them are packed alike, or none is. */
  get pages(): readonly LayerPages[] | undefined {
    return this.#packing?.pages;
  }

  kvBytesPerToken(sequence: Sequence): number {
    const exact = this.#device.kv.blockBytes / this.pageTokens;
    const { packedTokens, packedBytes, unpackedTokens } = sequence;
    if (packedTokens === 0) return exact;
    const seenPacked = this.#seenPacked(sequence);
    const packed = packedBytes / packedTokens;
    const unpacked = this.#device.kv.classBlockBytes[this.#bornClass(sequence)] / this.pageTokens;
    return (seenPacked * packed + unpackedTokens * unpacked) / (seenPacked + unpackedTokens);
  }

  /** Of the packed tokens, those that a token sees. */
  #seenPacked({ packedTokens, droppedTokens }: Sequence): number {
    const { partitions, pressure } = this.#options;
    if (partitions) return Math.min(packedTokens, partitions.topPages * this.pageTokens);
    const rule = pressure?.partitions;
    if (!rule || droppedTokens === 0) return packedTokens;
    return Math.min(packedTokens, rule.sinkTokens + rule.topPages * this.pageTokens);
  }

  contextOf(sequence: Sequence): number {
    return this.sights.contextOf(sequence) ?? this.#seenPacked(sequence) + sequence.unpackedTokens;
  }

  /** What the sequence's KV has come to. */
  kvUsage(sequence: Sequence): KvUsage {
    const { computedTokens, droppedTokens, packedClasses } = sequence;
    const { layers } = this.#device.info.spec;
    const pages = this.#form && new PageCounts(layers, this.#form);
    for (const key of packedClasses) pages?.add(classesOf(key, layers));
    return {
      tokens: computedTokens,
      droppedTokens,
      bytes: this.#heldBytes(sequence),
      layers: pages?.byLayer ?? [],
    };
  }

  usage(): number {
    return this.free.usage;
  }

  cachedTokens(sequence: Sequence): number {
    return this.#continuation(sequence)?.tokens ?? this.#match(sequence).length * this.pageTokens;
  }

  admit(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const most = this.#mostBlocks(sequence, sequence.tokenCount + reserveTokens) + this.#packRoom;
    const continuation = this.#continuation(sequence);
    if (continuation) {
      if (this.free.make(most - this.#kept!.blocksOf(continuation), continuation)) {
        this.#open(sequence);
        this.#kept!.take(sequence, continuation);
        this.#cache!.count(sequence.tokenCount, continuation.tokens);
        return true;
      }
      // What it holds lies in the way of a sequence that is alone.
      if (this.openSlots > 0) return false;
    }
    const path = this.#match(sequence);
    const idle = path.filter((node) => node.users === 0).length;
    if (!this.free.make(most - path.length + idle)) return false;
    this.#open(sequence);
    if (path.length > 0) {
      this.#device.kv.attach(
        sequence.slot,
        Int32Array.from(path, (node) => node.block),
      );
    }
    this.#cache?.use(path, sequence.tokenCount);
    sequence.path = path;
    sequence.computedTokens = path.length * this.pageTokens;
    this.sights.learn(sequence);
    return true;
  }

  reserve(sequence: Sequence, tokens: number): boolean {
    const { kv } = this.#device;
    const born = this.#bornClass(sequence);
    while (!kv.reserve(sequence.slot, tokens - sequence.droppedTokens, born)) {
      const missing =
        blocksFor(tokens, this.pageTokens) - Math.floor(sequence.computedTokens / this.pageTokens);
      if (!this.free.vacate(missing)) return false;
    }
    return true;
  }

  fork(from: Sequence, to: Sequence): boolean {
    if (this.#freeSlots.length === 0) return false;
    // In partitions each choice reads a long prompt for itself.
    if (this.#partitions && (from.packing || from.convertedTokens > 0)) return false;
    // Only the prompt's last token is computed again, to sample what follows it.
    const shared = from.promptTokens - 1;
    this.#open(to);
    if (!this.#device.kv.fork(from.slot, to.slot, shared)) {
      this.#close(to);
      return false;
    }
    to.computedTokens = shared;
    to.path = from.path.slice(0, Math.floor(shared / this.pageTokens));
    to.saliency = from.saliency?.copy();
    this.#cache?.share(to.path);
    return true;
  }

  /** Where the sequence can go on that others have left, behind what the cache itself has. */
  #continuation(sequence: Sequence): Continuation | undefined {
    if (sequence.isScored) return undefined;
    return this.#kept?.match(sequence.identity.view());
  }

  /** Frees the slot. What it computed stays in the cache for whoever asks the same, or in host memory for its session. */
  release(sequence: Sequence): void {
    if (this.#isParked(sequence)) {
      this.#copyOut(sequence, () => {
        this.swapped.drop(sequence);
        this.#options.onParked();
      });
      return;
    }
    this.#compression?.abandon(sequence);
    this.share(sequence);
    if (sequence.phase === 'ended' && sequence.packedTokens > 0) this.#kept?.keep(sequence);
    this.#close(sequence);
    sequence.forget();
  }

  get hasSlot(): boolean {
    return this.#freeSlots.length > 0;
  }

  makeRoomToSqueeze(): boolean {
    return this.#options.pressure === undefined || this.free.make(this.#packRoom + 1);
  }

  squeezable(sequence: Sequence): Squeezable | undefined {
    const squeeze = this.#nextSqueeze(sequence);
    if (!squeeze) return undefined;
    const { rung, end } = squeeze;
    if (this.#isDrop(squeeze)) return { rung, tokens: sequence.rungTokens - end };
    return { rung, tokens: end - (rung === sequence.rung ? sequence.rungTokens : 0) };
  }

  squeeze(sequence: Sequence): boolean {
    const squeeze = this.#nextSqueeze(sequence);
    if (!squeeze) return false;
    if (this.#isDrop(squeeze)) sequence.dropDueTokens = sequence.rungTokens - squeeze.end;
    else this.#squeezeTo(sequence, squeeze);
    if (sequence.packing || sequence.inFlight) return true;
    this.#packing?.pack(sequence);
    return sequence.packing;
  }

  #isDrop({ rung }: Squeeze): boolean {
    return rung === this.#options.pressure?.rungs.length;
  }

  #squeezeTo(sequence: Sequence, squeeze: Squeeze): void {
    if (squeeze.rung !== sequence.rung) {
      sequence.rung = squeeze.rung;
      sequence.rungTokens = 0;
      sequence.convertedTokens = 0;
      sequence.packingPlan = undefined;
    }
    sequence.squeezedTokens = squeeze.end;
  }

  #nextSqueeze(sequence: Sequence): Squeeze | undefined {
    const { rung, rungTokens, squeezedTokens, packing, request } = sequence;
    const { pressure } = this.#options;
    const most = request.request.kvPressure;
    if (!pressure || most === 'off') return undefined;
    const next = pressure.next(sequence, most);
    // What is under way frees memory too, and comes first.
    const isUnderWay = packing || squeezedTokens > rungTokens;
    return isUnderWay && next?.rung !== rung ? { rung, end: squeezedTokens } : next;
  }

  get packs(): boolean {
    return this.#compression !== undefined;
  }

  mustPack(sequence: Sequence): boolean {
    return this.#compression?.mustPack(sequence) ?? false;
  }

  stepLimit(sequence: Sequence): number {
    const { promptTokens, computedTokens } = sequence;
    const next = this.#options.sparse?.nextAt(promptTokens, computedTokens) ?? Number.POSITIVE_INFINITY;
    return Math.min(
      this.#compression?.stepLimit(sequence) ?? Number.POSITIVE_INFINITY,
      next - computedTokens,
    );
  }

  pack(sequence: Sequence): boolean {
    return this.#compression?.pack(sequence) ?? true;
  }

  /** Lets the cache have the sequence's full blocks, as long as all of them are what any request would have computed. */
  share(sequence: Sequence): void {
    if (sequence.packedTokens > 0) return;
    const { promptTokens, computedTokens, path, slot, identity } = sequence;
    const { sparse } = this.#options;
    const common = sparse?.commonTokens(promptTokens) ?? Number.POSITIVE_INFINITY;
    const exact = this.#exactTokens(sequence);
    this.#cache?.extend(path, slot, identity.view(0, Math.min(computedTokens, common, exact)));
    this.sights.teach(sequence);
  }

  /** Tokens that are computed while all is exact. */
  #exactTokens({ promptTokens }: Sequence): number {
    const { packing, partitions } = this.#options;
    return packing?.exactTokens(promptTokens) ?? partitions?.exactTokens ?? Number.POSITIVE_INFINITY;
  }

  canSwap(sequence: Sequence): boolean {
    return !sequence.isScored && this.swapped.hasRoom(this.#heldBytes(sequence));
  }

  swapOut(sequence: Sequence): void {
    this.#copyOut(sequence, () => this.#options.onSwappedOut(sequence));
  }

  #copyOut(sequence: Sequence, onEnd: () => void): void {
    this.#compression?.abandon(sequence);
    this.swapped.copyOut(sequence, this.#heldBytes(sequence), (isThere) => {
      this.#close(sequence);
      if (!isThere) sequence.forget();
      onEnd();
    });
  }

  swapIn(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const tokens = sequence.tokenCount + reserveTokens;
    const needed = this.#mostBlocks(sequence, tokens);
    if (!this.free.make(needed + this.#packRoom)) return false;
    this.free.clear(needed);
    this.#open(sequence);
    this.swapped.copyIn(sequence, (isThere) => {
      if (!isThere) sequence.forget();
      this.#options.onSwappedIn(sequence);
    });
    return true;
  }

  dropSwapped(sequence: Sequence): void {
    this.swapped.drop(sequence);
  }

  /** Whether its KV is kept for its session, as it has ended. */
  #isParked(sequence: Sequence): boolean {
    const { session } = sequence.request;
    const isWanted = session !== undefined && !session.isClosed && sequence.phase === 'ended';
    return isWanted && sequence.computedTokens > 0 && this.canSwap(sequence);
  }

  #heldBytes(sequence: Sequence): number {
    const { packedBytes, unpackedTokens, packedTokens } = sequence;
    const unpacked =
      this.#packing?.unpackedBytes(sequence, packedTokens + unpackedTokens) ??
      blocksFor(unpackedTokens, this.pageTokens) * this.#device.kv.blockBytes;
    return packedBytes + unpacked;
  }

  /** The class of the pages that the sequence's next tokens are written to. */
  #bornClass(sequence: Sequence): BornClass {
    return this.#packing?.bornClass(sequence) ?? this.#device.kv.precision;
  }

  /** The most that the sequence takes from now on until it has `tokens` tokens. */
  #mostBlocks(sequence: Sequence, tokens: number): number {
    return this.#compression?.mostBlocks(sequence, tokens) ?? blocksFor(tokens, this.pageTokens);
  }

  get #packRoom(): number {
    return this.#compression?.room ?? 0;
  }

  #match(sequence: Sequence): CacheNode[] {
    if (sequence.isScored || !this.#cache) return [];
    const path = this.#cache.match(sequence.identity.view(0, this.#mostCached(sequence) + 1));
    const { sparse } = this.#options;
    if (!sparse) return path;
    const usable = sparse.usableTokens(
      sequence.promptTokens,
      path.length * this.pageTokens,
      (stretch) => path[stretch * sparse.stretchPages - 1]!.seen !== undefined,
    );
    return path.slice(0, usable / this.pageTokens);
  }

  /** Tokens that may come from the cache: one is always left over, to sample what follows it. */
  #mostCached(sequence: Sequence): number {
    const { promptTokens, tokenCount } = sequence;
    const { sparse } = this.#options;
    // What was computed by rows that look elsewhere is not what this prompt would compute.
    const common = Math.min(tokenCount - 1, sparse?.commonTokens(promptTokens) ?? Number.POSITIVE_INFINITY);
    // The probes must be seen anew.
    if (this.#form) return Math.min(common, Math.max(0, promptTokens - tailProbes));
    // What was computed behind packed tokens is not what a prompt of the same tokens holds there.
    return Math.min(common, this.#exactTokens(sequence));
  }

  #open(sequence: Sequence): void {
    const { request } = sequence.request;
    const stops = new Set(request.stopTokenIds);
    if (!request.ignoreEos || request.grammar) for (const id of this.#options.eosTokenIds) stops.add(id);
    const generated = sequence.tokens.view(sequence.promptTokens);
    const slot = this.#freeSlots.at(-1)!;
    const { grammar, embeddedPrompt } = sequence.request;
    const sampling = slotSampling(request, sequence.seed, stops, generated, grammar);
    this.#device.openSlot(slot, sampling, embeddedPrompt?.embedded);
    this.#freeSlots.pop();
    sequence.slot = slot;
  }

  #close(sequence: Sequence): void {
    this.#compression?.abandon(sequence);
    this.#device.closeSlot(sequence.slot);
    if (this.#compression) this.#compression.release(sequence);
    else this.#cache?.release(sequence.path);
    sequence.path = [];
    this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
    // Once its KV is where it belongs.
    queueMicrotask(() => sequence.request.session?.checkFree());
  }
}

/** What pages are packed into where attention decides on it. */
function chosenForm(
  packing: PackingRule | undefined,
  pressure: PressureRule | undefined,
): PackedForm | undefined {
  if (!packing) return pressure?.chosenForm;
  return decidesByAttention(packing.form) ? packing.form : undefined;
}
