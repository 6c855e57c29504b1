import type { BornClass, Device, SwappedKv } from '../device/device.js';
import { slotSampling } from '../sampling/params.js';
import type { Memory, Squeezable } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import type { CacheStats, KvUsage } from '../types.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { type Continuation, KeptSequences } from './kept-sequences.js';
import type { PackingRule } from './packing-rule.js';
import { byRule, underPressure } from './packing-schedule.js';
import { classesOf, decidesByAttention, type PackedForm } from './page-classes.js';
import { type LayerPages, PageCounts } from './page-counts.js';
import type { PartitionRule } from './partition-rule.js';
import type { CacheNode, PrefixCache } from './prefix-cache.js';
import type { PressureRule, Squeeze } from './pressure-rule.js';
import { type Look, probesAmong, tailProbes } from './probes.js';
import { Saliency } from './saliency.js';
import { SequencePacking } from './sequence-packing.js';
import { SequencePartitions } from './sequence-partitions.js';
import type { ParkedKv } from './session.js';
import { PrefillSight, type SeenPages, type SparsePrefill } from './sparse-prefill.js';

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
  readonly #device: Device;
  readonly #cache: PrefixCache | undefined;
  readonly #options: SequenceMemoryOptions;
  readonly #freeSlots: number[];
  readonly #compression: Compression | undefined;
  readonly #packing: SequencePacking | undefined;
  readonly #partitions: SequencePartitions | undefined;
  /** Absent where sequences are not held in partitions, or nothing is kept for others. */
  readonly #kept: KeptSequences | undefined;
  readonly #swapped = new Map<Sequence, SwappedKv>();
  #swappedBytes = 0;
  /** Copies to and from host memory that run. */
  #copies = 0;

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
    if (schedule && cache) {
      const partitions = pressure?.partitions;
      this.#packing = new SequencePacking({ kv, layers, cache, schedule, partitions, share, onPacked });
    }
    if (partitions) {
      const giveBack = (blocks: number) => this.#giveBack(blocks);
      const rule = partitions;
      this.#partitions = new SequencePartitions({ kv, layers, rule, cache, share, giveBack, onPacked });
      if (cache) this.#kept = new KeptSequences(kv, rule, (path) => cache.leave(path));
    }
    this.#compression = this.#packing ?? this.#partitions;
    this.#freeSlots = Array.from({ length: info.slots }, (_, i) => info.slots - 1 - i);
  }

  get openSlots(): number {
    return this.#device.info.slots - this.#freeSlots.length;
  }

  /** Whether a copy to or from host memory, or a conversion, runs: the device must not be closed. */
  get isCopying(): boolean {
    return this.#copies > 0 || (this.#compression?.running ?? 0) > 0;
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

  /** Bytes of host memory that hold swapped sequences, or will. */
  get swappedBytes(): number {
    return this.#swappedBytes;
  }

  /** Of the prefix cache, and what sequences in partitions have left. */
  get cacheStats(): CacheStats {
    const none = { blocks: 0, hitTokens: 0, queriedTokens: 0, evictedBlocks: 0 };
    const stats = this.#cache?.stats() ?? none;
    if (!this.#kept) return stats;
    const { blocks, evictedBlocks } = this.#kept;
    return {
      ...stats,
      blocks: stats.blocks + blocks,
      evictedBlocks: stats.evictedBlocks + evictedBlocks,
    };
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
    const sight = this.#sightOf(sequence);
    return sight?.contextAt(sequence.computedTokens) ?? this.#seenPacked(sequence) + sequence.unpackedTokens;
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

  /** Of the sequence's next `tokens` tokens, those whose attention decides something. */
  looksAmong({ promptTokens, computedTokens }: Sequence, tokens: number): Look[] {
    const end = computedTokens + tokens;
    const packing = this.#form ? probesAmong(promptTokens, computedTokens, end) : [];
    const sight = this.#options.sparse?.probesAmong(promptTokens, computedTokens, end) ?? [];
    return [
      ...packing.map((run) => ({ run, decides: 'packing' }) as const),
      ...sight.map((run) => ({ run, decides: 'sight' }) as const),
    ];
  }

  /** Where the sequence's next rows look; undefined: everywhere. */
  seenBy(sequence: Sequence): SeenPages | undefined {
    return this.#sightOf(sequence)?.at(sequence.computedTokens);
  }

  #sightOf(sequence: Sequence): PrefillSight | undefined {
    const { sparse } = this.#options;
    if (sparse) sequence.sight ??= new PrefillSight(sparse, sequence.promptTokens);
    return sequence.sight;
  }

  /** What pages are packed into where attention decides on it. */
  get #form(): PackedForm | undefined {
    const { packing, pressure } = this.#options;
    if (!packing) return pressure?.chosenForm;
    return decidesByAttention(packing.form) ? packing.form : undefined;
  }

  /** Where these rows of the sequence looked. */
  saw(sequence: Sequence, { run, decides }: Look, sums: Uint32Array): void {
    if (decides === 'sight') {
      this.#sightOf(sequence)?.add(run, sums);
      return;
    }
    const { layers } = this.#device.info.spec;
    sequence.saliency ??= new Saliency(sequence.promptTokens, layers, this.pageTokens);
    sequence.saliency.add(run, this.#withDropped(sequence, sums));
  }

  /** Sums by page, [layers, pages], of the pages that are held: with zeros for those that were dropped. */
  #withDropped({ droppedTokens }: Sequence, sums: Uint32Array): Uint32Array {
    const rule = this.#options.pressure?.partitions;
    if (!rule || droppedTokens === 0) return sums;
    const { layers } = this.#device.info.spec;
    const held = sums.length / layers;
    const sink = rule.sinkTokens / this.pageTokens;
    const dropped = droppedTokens / this.pageTokens;
    const all = new Uint32Array(layers * (held + dropped));
    for (let layer = 0; layer < layers; layer++) {
      const own = sums.subarray(layer * held, (layer + 1) * held);
      all.set(own.subarray(0, sink), layer * (held + dropped));
      all.set(own.subarray(sink), layer * (held + dropped) + sink + dropped);
    }
    return all;
  }

  usage(): number {
    const { totalBlocks } = this.#device.kv;
    return 1 - (this.#availableBlocks() + (this.#kept?.blocks ?? 0)) / totalBlocks;
  }

  cachedTokens(sequence: Sequence): number {
    return this.#continuation(sequence)?.tokens ?? this.#match(sequence).length * this.pageTokens;
  }

  admit(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const most = this.#mostBlocks(sequence, sequence.tokenCount + reserveTokens) + this.#packRoom;
    const continuation = this.#continuation(sequence);
    if (continuation) {
      if (this.#makeAvailable(most - this.#kept!.blocksOf(continuation), continuation)) {
        this.#goOn(sequence, continuation);
        return true;
      }
      // What it holds lies in the way of a sequence that is alone.
      if (this.openSlots > 0) return false;
    }
    const path = this.#match(sequence);
    const idle = path.filter((node) => node.users === 0).length;
    if (!this.#makeAvailable(most - path.length + idle)) return false;
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
    this.#learnFrom(path, sequence);
    return true;
  }

  reserve(sequence: Sequence, tokens: number): boolean {
    const { kv } = this.#device;
    const born = this.#bornClass(sequence);
    while (!kv.reserve(sequence.slot, tokens - sequence.droppedTokens, born)) {
      const missing =
        blocksFor(tokens, this.pageTokens) - Math.floor(sequence.computedTokens / this.pageTokens);
      if (!this.#giveBack(missing)) return false;
    }
    return true;
  }

  /** Gives back memory that nobody runs on, of so many blocks if there is as much; false: there was none. */
  #giveBack(blocks: number): boolean {
    return (this.#cache?.evict(blocks) ?? 0) > 0 || (this.#kept?.evict() ?? false);
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

  /** Whether so many blocks can be had, but for those of `spared`: what others have left is given up for that. */
  #makeAvailable(blocks: number, spared?: Continuation): boolean {
    while (blocks > this.#availableBlocks()) if (!this.#kept?.evict(spared?.kept)) return false;
    return true;
  }

  #goOn(sequence: Sequence, continuation: Continuation): void {
    this.#open(sequence);
    this.#kept!.take(sequence, continuation);
    this.#cache!.count(sequence.tokenCount, continuation.tokens);
  }

  /** Frees the slot. What it computed stays in the cache for whoever asks the same, or in host memory for its session. */
  release(sequence: Sequence): void {
    if (this.#isParked(sequence)) {
      this.swapOut(sequence);
      return;
    }
    this.#compression?.abandon(sequence);
    this.share(sequence);
    if (sequence.phase === 'ended' && sequence.packedTokens > 0) this.#kept?.keep(sequence);
    this.#close(sequence);
    forget(sequence);
  }

  get hasSlot(): boolean {
    return this.#freeSlots.length > 0;
  }

  get isTight(): boolean {
    return this.#options.pressure !== undefined && this.#availableBlocks() <= this.#packRoom;
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
    if (!sparse) return;
    for (const [stretch, end] of this.#stretchEnds(sparse, path)) {
      const seen = sequence.sight?.ofStretch(stretch);
      if (seen) end.seen ??= seen;
    }
  }

  /** Tokens that are computed while all is exact. */
  #exactTokens({ promptTokens }: Sequence): number {
    const { packing, partitions } = this.#options;
    return packing?.exactTokens(promptTokens) ?? partitions?.exactTokens ?? Number.POSITIVE_INFINITY;
  }

  /** Of the stretches that begin behind a block of the path, that block. */
  #stretchEnds({ stretchPages }: SparsePrefill, path: readonly CacheNode[]): [number, CacheNode][] {
    const stretches = Math.floor(path.length / stretchPages);
    return Array.from({ length: stretches }, (_, index) => [
      index + 1,
      path[(index + 1) * stretchPages - 1]!,
    ]);
  }

  #learnFrom(path: readonly CacheNode[], sequence: Sequence): void {
    const { sparse } = this.#options;
    if (!sparse) return;
    for (const [stretch, { seen }] of this.#stretchEnds(sparse, path)) {
      if (seen) this.#sightOf(sequence)?.learn(stretch, seen);
    }
  }

  canSwap(sequence: Sequence): boolean {
    return !sequence.isScored && this.#swappedBytes + this.#heldBytes(sequence) <= this.#options.swapBytes;
  }

  swapOut(sequence: Sequence): void {
    this.#compression?.abandon(sequence);
    const bytes = this.#heldBytes(sequence);
    const parks = this.#isParked(sequence);
    const onEnd = parks ? this.#options.onParked : this.#options.onSwappedOut;
    this.#swappedBytes += bytes;
    this.#copies++;
    void this.#device.kv.swapOut(sequence.slot).then(
      (swapped) => {
        this.#copies--;
        this.#swapped.set(sequence, swapped);
        this.#swappedBytes += swapped.bytes - bytes;
        this.#close(sequence);
        if (parks) this.dropSwapped(sequence);
        onEnd(sequence);
      },
      () => {
        this.#copies--;
        // No host memory after all: it will be computed anew.
        this.#swappedBytes -= bytes;
        this.#close(sequence);
        forget(sequence);
        onEnd(sequence);
      },
    );
  }

  swapIn(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const tokens = sequence.tokenCount + reserveTokens;
    const needed = this.#mostBlocks(sequence, tokens);
    if (!this.#makeAvailable(needed + this.#packRoom)) return false;
    const { kv } = this.#device;
    if (needed > kv.freeBlocks()) this.#cache?.evict(needed - kv.freeBlocks());
    this.#open(sequence);
    const swapped = this.#swapped.get(sequence);
    this.#copies++;
    const restored = swapped ? kv.swapIn(sequence.slot, swapped) : Promise.resolve(false);
    void restored
      .catch(() => false)
      .then((isRestored) => {
        this.#copies--;
        if (!isRestored) forget(sequence);
        this.#releaseSwapped(sequence);
        this.#options.onSwappedIn(sequence);
      });
    return true;
  }

  dropSwapped(sequence: Sequence): void {
    const swapped = this.#swapped.get(sequence);
    const { session } = sequence.request;
    if (swapped && session && !session.isClosed && sequence.phase === 'ended') {
      this.#swapped.delete(sequence);
      const { computedTokens, packedTokens, droppedTokens, packedBytes } = sequence;
      session.park({ swapped, computedTokens, packedTokens, droppedTokens, packedBytes });
    } else {
      this.#releaseSwapped(sequence);
    }
  }

  #releaseSwapped(sequence: Sequence): void {
    const swapped = this.#swapped.get(sequence);
    if (!swapped) return;
    this.#swapped.delete(sequence);
    this.#swappedBytes -= swapped.bytes;
    swapped.release();
  }

  /** The sequence takes over what its session has parked. */
  unpark(sequence: Sequence, { swapped, ...computed }: ParkedKv): void {
    Object.assign(sequence, computed);
    this.#swapped.set(sequence, swapped);
  }

  /** Nobody will go on with it. */
  dropParked({ swapped }: ParkedKv): void {
    this.#swappedBytes -= swapped.bytes;
    swapped.release();
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

  #availableBlocks(): number {
    return this.#device.kv.freeBlocks() + (this.#cache?.evictableBlocks ?? 0);
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

/** Nothing of the sequence is computed any more. */
function forget(sequence: Sequence): void {
  sequence.computedTokens = 0;
  sequence.packedTokens = 0;
  sequence.droppedTokens = 0;
  sequence.convertedTokens = 0;
  sequence.rung = 0;
  sequence.rungTokens = 0;
  sequence.squeezedTokens = 0;
  sequence.dropDueTokens = 0;
  sequence.packedClasses = [];
  sequence.packedBytes = 0;
  sequence.packingPlan = undefined;
  sequence.saliency = undefined;
  sequence.sight = undefined;
}
