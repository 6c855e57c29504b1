import type { Device, KvPool } from '../device/device.js';
import type { Memory, Squeezable } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { FreeMemory } from './free-memory.js';
import { type Continuation, KeptSequences } from './kept-sequences.js';
import type { PackingRule } from './packing-rule.js';
import { byRule, underPressure } from './packing-schedule.js';
import { decidesByAttention, type PackedForm } from './page-classes.js';
import type { LayerPages } from './page-counts.js';
import type { PartitionRule } from './partition-rule.js';
import type { PrefixCache } from './prefix-cache.js';
import { PrefixSharing } from './prefix-sharing.js';
import type { PressureRule } from './pressure-rule.js';
import { SequencePacking } from './sequence-packing.js';
import { SequencePartitions } from './sequence-partitions.js';
import { SequenceSize } from './sequence-size.js';
import { Sights } from './sights.js';
import { Slots } from './slots.js';
import type { SparsePrefill } from './sparse-prefill.js';
import { Squeezing } from './squeezing.js';
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
  /** What sequences hold. */
  readonly size: SequenceSize;
  /** What sequences have of the cache, and give to it. */
  readonly sharing: PrefixSharing;
  readonly #kv: KvPool;
  readonly #cache: PrefixCache | undefined;
  readonly #options: SequenceMemoryOptions;
  readonly #slots: Slots;
  readonly #compression: Compression | undefined;
  readonly #packing: SequencePacking | undefined;
  readonly #partitions: SequencePartitions | undefined;
  readonly #squeezing: Squeezing | undefined;
  /** Absent where sequences are not held in partitions, or nothing is kept for others. */
  readonly #kept: KeptSequences | undefined;

  constructor(options: SequenceMemoryOptions) {
    const { kv, info } = options.device;
    const { cache, packing, pressure, sparse, partitions, onPacked } = options;
    const { layers } = info.spec;
    const { pageTokens } = kv;
    this.pageTokens = pageTokens;
    this.#options = options;
    this.#kv = kv;
    this.#cache = cache;
    this.#slots = new Slots(options.device);
    const share = (sequence: Sequence) => this.sharing.share(sequence);
    const vacate = (blocks: number) => this.free.vacate(blocks);
    const schedule = packing ? byRule(packing) : pressure && underPressure(pressure);
    if (schedule) {
      if (!cache) throw new Error('packed sequences share their blocks through a prefix cache');
      this.#packing = new SequencePacking({
        kv,
        layers,
        cache,
        schedule,
        partitions: pressure?.partitions,
        share,
        vacate,
        onPacked,
      });
    }
    if (partitions) {
      const rule = partitions;
      const vacateFar = () => this.#vacateFar();
      this.#partitions = new SequencePartitions({
        kv,
        layers,
        rule,
        cache,
        share,
        vacate,
        vacateFar,
        onPacked,
      });
      if (cache) this.#kept = new KeptSequences(kv, rule, (path) => cache.leave(path));
    }
    this.#compression = this.#packing ?? this.#partitions;
    this.free = new FreeMemory(kv, cache, this.#kept);
    if (pressure && this.#packing) this.#squeezing = new Squeezing(pressure, this.#packing, this.free);
    this.swapped = new SwappedSequences(kv, options.swapBytes);
    const form = chosenForm(packing, pressure);
    const sights = new Sights({ layers, pageTokens, form, sparse, partitions: pressure?.partitions });
    this.sights = sights;
    this.size = new SequenceSize({
      kv,
      layers,
      packing: this.#packing,
      partitions,
      pressure,
      form,
      sights,
    });
    this.sharing = new PrefixSharing({
      cache,
      pageTokens,
      sights,
      sparse,
      exactTokens: (promptTokens) =>
        packing?.exactTokens(promptTokens) ?? partitions?.exactTokens ?? Number.POSITIVE_INFINITY,
      probes: form !== undefined,
    });
  }

  get openSlots(): number {
    return this.#slots.open;
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
    return this.size.bytesPerToken(sequence);
  }

  contextOf(sequence: Sequence): number {
    return this.size.contextOf(sequence);
  }

  usage(): number {
    return this.free.usage;
  }

  cachedTokens(sequence: Sequence): number {
    return this.#continuation(sequence)?.tokens ?? this.sharing.match(sequence).length * this.pageTokens;
  }

  mustAwait(sequence: Sequence): boolean {
    if (sequence.isScored) return false;
    let behind = 0;
    for (const holder of this.#slots.holders) {
      if (holder.phase !== 'ended' || this.#isParked(holder)) continue;
      behind = Math.max(behind, this.#tokensBehind(holder, sequence));
    }
    // Where none begins alike, nothing is looked up.
    return behind > 0 && behind > this.cachedTokens(sequence);
  }

  admit(sequence: Sequence, reserveTokens: number): boolean {
    if (!this.#slots.hasFree) return false;
    const most = this.#mostBlocks(sequence, sequence.tokenCount + reserveTokens) + this.#packRoom;
    const continuation = this.#continuation(sequence);
    if (continuation) {
      const isRoom = this.free.make(most - this.#kept!.blocksOf(continuation), continuation);
      if (isRoom && this.#makeFar(sequence, continuation)) {
        this.#slots.give(sequence);
        this.#kept!.take(sequence, continuation);
        this.#cache!.count(sequence.tokenCount, continuation.tokens);
        return true;
      }
      // What it holds lies in the way of a sequence that is alone.
      if (this.openSlots > 0) return false;
    }
    const path = this.sharing.match(sequence);
    const idle = path.filter((node) => node.users === 0).length;
    if (!this.free.make(most - path.length + idle) || !this.#makeFar(sequence)) return false;
    this.#slots.give(sequence);
    if (path.length > 0) {
      this.#kv.attach(
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
    const born = this.#packing?.bornClass(sequence) ?? this.#kv.precision;
    while (!this.#kv.reserve(sequence.slot, tokens - sequence.droppedTokens, born)) {
      const missing =
        blocksFor(tokens, this.pageTokens) - Math.floor(sequence.computedTokens / this.pageTokens);
      if (!this.free.vacate(missing)) return false;
    }
    return true;
  }

  fork(from: Sequence, to: Sequence): boolean {
    if (!this.#slots.hasFree) return false;
    // In partitions each choice reads a long prompt for itself.
    if (this.#partitions && (from.packedTokens > 0 || from.convertedTokens > 0)) return false;
    // Only the prompt's last token is computed again, to sample what follows it.
    const shared = from.promptTokens - 1;
    this.#slots.give(to);
    if (!this.#kv.fork(from.slot, to.slot, shared)) {
      this.#close(to);
      return false;
    }
    to.computedTokens = shared;
    to.path = from.path.slice(0, Math.floor(shared / this.pageTokens));
    to.saliency = from.saliency?.copy();
    this.#cache?.share(to.path);
    return true;
  }

  /** Whether host memory has, or can have, a place for each page of the sequence's that is to be far. */
  #makeFar(sequence: Sequence, from?: Continuation): boolean {
    const partitions = this.#partitions;
    while (partitions && partitions.missingFarBlocks(sequence, from?.kept.farTokens ?? 0) > 0) {
      if (!this.#vacateFar(from)) return false;
    }
    return true;
  }

  /** What of host memory far pages hold that nobody runs on. False if that is none. */
  #vacateFar(spared?: Continuation): boolean {
    return (this.#kept?.evictFar(spared?.kept) ?? false) || this.swapped.evictFar();
  }

  /** Where the sequence can go on that others have left, behind what the cache itself has. */
  #continuation(sequence: Sequence): Continuation | undefined {
    if (sequence.isScored) return undefined;
    return this.#kept?.match(sequence.identity.view());
  }

  /** Tokens that the sequence could begin with once an ended one, whose pages are still in use, has given up its slot. */
  #tokensBehind(ended: Sequence, sequence: Sequence): number {
    if (ended.packedTokens === 0) return this.sharing.tokensBehind(ended, sequence);
    return this.#kept?.endBehind(ended, sequence.identity.view()) ?? 0;
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
    this.sharing.share(sequence);
    if (sequence.phase === 'ended' && sequence.packedTokens > 0) this.#kept?.keep(sequence);
    this.#close(sequence);
    sequence.forget();
  }

  get hasSlot(): boolean {
    return this.#slots.hasFree;
  }

  makeRoomToSqueeze(): boolean {
    return this.#squeezing?.makeRoom() ?? true;
  }

  squeezable(sequence: Sequence): Squeezable | undefined {
    return this.#squeezing?.squeezable(sequence);
  }

  squeeze(sequence: Sequence): boolean {
    return this.#squeezing?.squeeze(sequence) ?? false;
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

  giveUpKept(): void {
    this.free.clearAll();
  }

  canSwap(sequence: Sequence): boolean {
    return !sequence.isScored && this.swapped.hasRoom(this.size.heldBytes(sequence));
  }

  swapOut(sequence: Sequence): void {
    this.#copyOut(sequence, () => this.#options.onSwappedOut(sequence));
  }

  #copyOut(sequence: Sequence, onEnd: () => void): void {
    this.#compression?.abandon(sequence);
    this.swapped.copyOut(sequence, this.size.heldBytes(sequence), (isThere) => {
      this.#close(sequence);
      if (!isThere) sequence.forget();
      onEnd();
    });
  }

  swapIn(sequence: Sequence, reserveTokens: number): boolean {
    if (!this.#slots.hasFree) return false;
    const tokens = sequence.tokenCount + reserveTokens;
    const needed = this.#mostBlocks(sequence, tokens);
    if (!this.free.make(needed + this.#packRoom)) return false;
    this.free.clear(needed);
    this.#slots.give(sequence);
    this.swapped.copyIn(sequence, (isThere) => {
      if (!isThere) sequence.forget();
      this.#options.onSwappedIn(sequence);
    });
    return true;
  }

  dropSwapped(sequence: Sequence): void {
    this.swapped.drop(sequence);
  }

  giveUpFar(sequence: Sequence, wanting: Sequence): boolean {
    const missing = this.#partitions?.missingFarBlocks(wanting, wanting.farTokens) ?? 0;
    if (sequence.farTokens === 0 || missing <= 0) return false;
    this.swapped.drop(sequence);
    sequence.forget();
    return true;
  }

  /** Whether its KV is kept for its session, as it has ended. */
  #isParked(sequence: Sequence): boolean {
    const { session } = sequence.request;
    const isWanted = session !== undefined && !session.isClosed && sequence.phase === 'ended';
    return isWanted && sequence.computedTokens > 0 && this.canSwap(sequence);
  }

  /** The most that the sequence takes from now on until it has `tokens` tokens. */
  #mostBlocks(sequence: Sequence, tokens: number): number {
    return this.#compression?.mostBlocks(sequence, tokens) ?? blocksFor(tokens, this.pageTokens);
  }

  get #packRoom(): number {
    return this.#compression?.room ?? 0;
  }

  #close(sequence: Sequence): void {
    this.#compression?.abandon(sequence);
    this.#slots.take(sequence);
    if (this.#compression) this.#compression.release(sequence);
    else this.#cache?.release(sequence.path);
    sequence.path = [];
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
