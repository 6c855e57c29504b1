import type { Device, SwappedKv } from '../device/device.js';
import { slotSampling } from '../sampling/params.js';
import type { Memory } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { PackingRule } from './packing-rule.js';
import type { PrefixCache } from './prefix-cache.js';
import { SequencePacking } from './sequence-packing.js';

export interface SequenceMemoryOptions {
  readonly device: Device;
  readonly cache: PrefixCache | undefined;
  /** Absent: sequences stay in the class that steps write. Packed blocks are shared by the cache, so it needs one. */
  readonly packing: PackingRule | undefined;
  readonly eosTokenIds: readonly number[];
  /** Bytes of host memory for the KV of pre-empted sequences. */
  readonly swapBytes: number;
  readonly onSwappedOut: (sequence: Sequence) => void;
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
  readonly #packing: SequencePacking | undefined;
  readonly #packedBlockBytes: number;
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
    const { cache, packing: rule, onPacked } = options;
    this.#packedBlockBytes = kv.classBlockBytes[rule?.precision ?? kv.precision];
    if (rule && !cache) throw new Error('packed sequences share their blocks through a prefix cache');
    if (rule && cache) {
      const share = (sequence: Sequence) => this.share(sequence);
      this.#packing = new SequencePacking({ kv, cache, rule, share, onPacked });
    }
    this.#freeSlots = Array.from({ length: info.slots }, (_, i) => info.slots - 1 - i);
  }

  get openSlots(): number {
    return this.#device.info.slots - this.#freeSlots.length;
  }

  /** Whether a copy to or from host memory, or a conversion, runs: the device must not be closed. */
  get isCopying(): boolean {
    return this.#copies > 0 || (this.#packing?.running ?? 0) > 0;
  }

  /** Blocks that were packed, since the start. */
  get packedBlocks(): number {
    return this.#packing?.convertedBlocks ?? 0;
  }

  /** Bytes of host memory that hold swapped sequences, or will. */
  get swappedBytes(): number {
    return this.#swappedBytes;
  }

  kvBytesPerToken({ computedTokens, packedTokens }: Sequence): number {
    const { kv } = this.#device;
    const packed = computedTokens === 0 ? 0 : packedTokens / computedTokens;
    return (packed * this.#packedBlockBytes + (1 - packed) * kv.blockBytes) / this.pageTokens;
  }

  usage(): number {
    const { totalBlocks } = this.#device.kv;
    return 1 - this.#availableBlocks() / totalBlocks;
  }

  cachedTokens(sequence: Sequence): number {
    return this.#match(sequence).length * this.pageTokens;
  }

  admit(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const path = this.#match(sequence);
    const idle = path.filter((node) => node.users === 0).length;
    const tokens = sequence.tokenCount + reserveTokens;
    const most = this.#mostBlocks(sequence, tokens);
    if (most - path.length + this.#packRoom > this.#availableBlocks() - idle) return false;
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
    return true;
  }

  reserve(sequence: Sequence, tokens: number): boolean {
    const { kv } = this.#device;
    while (!kv.reserve(sequence.slot, tokens)) {
      const missing =
        blocksFor(tokens, this.pageTokens) - Math.floor(sequence.computedTokens / this.pageTokens);
      if (!this.#cache || this.#cache.evict(missing) === 0) return false;
    }
    return true;
  }

  fork(from: Sequence, to: Sequence): boolean {
    if (this.#freeSlots.length === 0) return false;
    // Only the prompt's last token is computed again, to sample what follows it.
    const shared = from.promptTokens - 1;
    this.#open(to);
    if (!this.#device.kv.fork(from.slot, to.slot, shared)) {
      this.#close(to);
      return false;
    }
    to.computedTokens = shared;
    to.path = from.path.slice(0, Math.floor(shared / this.pageTokens));
    this.#cache?.share(to.path);
    return true;
  }

  /** Frees the slot. What it computed stays in the cache for whoever asks the same. */
  release(sequence: Sequence): void {
    this.#packing?.abandon(sequence);
    this.share(sequence);
    this.#close(sequence);
    forget(sequence);
  }

  get packs(): boolean {
    return this.#packing !== undefined;
  }

  mustPack(sequence: Sequence): boolean {
    return this.#packing?.mustPack(sequence) ?? false;
  }

  stepLimit(sequence: Sequence): number {
    return this.#packing?.stepLimit(sequence) ?? Number.POSITIVE_INFINITY;
  }

  pack(sequence: Sequence): boolean {
    return this.#packing?.pack(sequence) ?? true;
  }

  /** Lets the cache have the sequence's full blocks, as long as all of them are what any request would have computed. */
  share(sequence: Sequence): void {
    if (sequence.packedTokens > 0) return;
    this.#cache?.extend(sequence.path, sequence.slot, sequence.tokens.view(0, sequence.computedTokens));
  }

  canSwap(sequence: Sequence): boolean {
    return !sequence.isScored && this.#swappedBytes + this.#swapBytes(sequence) <= this.#options.swapBytes;
  }

  swapOut(sequence: Sequence): void {
    this.#packing?.abandon(sequence);
    const bytes = this.#swapBytes(sequence);
    this.#swappedBytes += bytes;
    this.#copies++;
    void this.#device.kv.swapOut(sequence.slot).then(
      (swapped) => {
        this.#copies--;
        this.#swapped.set(sequence, swapped);
        this.#swappedBytes += swapped.bytes - bytes;
        this.#close(sequence);
        this.#options.onSwappedOut(sequence);
      },
      () => {
        this.#copies--;
        // No host memory after all: it will be computed anew.
        this.#swappedBytes -= bytes;
        this.#close(sequence);
        forget(sequence);
        this.#options.onSwappedOut(sequence);
      },
    );
  }

  swapIn(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const tokens = sequence.tokenCount + reserveTokens;
    const needed = this.#mostBlocks(sequence, tokens);
    if (needed + this.#packRoom > this.#availableBlocks()) return false;
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
        this.dropSwapped(sequence);
        this.#options.onSwappedIn(sequence);
      });
    return true;
  }

  dropSwapped(sequence: Sequence): void {
    const swapped = this.#swapped.get(sequence);
    if (!swapped) return;
    this.#swapped.delete(sequence);
    this.#swappedBytes -= swapped.bytes;
    swapped.release();
  }

  #swapBytes(sequence: Sequence): number {
    const { computedTokens, packedTokens } = sequence;
    const { kv } = this.#device;
    const packedBlocks = packedTokens / this.pageTokens;
    const blocks = blocksFor(computedTokens, this.pageTokens) - packedBlocks;
    return blocks * kv.blockBytes + packedBlocks * this.#packedBlockBytes;
  }

  /** The most that the sequence takes from now on until it has `tokens` tokens. */
  #mostBlocks(sequence: Sequence, tokens: number): number {
    return this.#packing?.mostBlocks(sequence, tokens) ?? blocksFor(tokens, this.pageTokens);
  }

  get #packRoom(): number {
    return this.#packing?.room ?? 0;
  }

  #availableBlocks(): number {
    return this.#device.kv.freeBlocks() + (this.#cache?.evictableBlocks ?? 0);
  }

  #match(sequence: Sequence) {
    if (sequence.isScored || !this.#cache) return [];
    // What was generated behind packed tokens is not what a prompt of the same tokens holds.
    const exact = this.#options.packing?.exactTokens(sequence.promptTokens) ?? Number.POSITIVE_INFINITY;
    return this.#cache.match(sequence.tokens.view(0, Math.min(sequence.tokenCount, exact + 1)));
  }

  #open(sequence: Sequence): void {
    const { request } = sequence.request;
    const stops = new Set(request.stopTokenIds);
    if (!request.ignoreEos || request.grammar) for (const id of this.#options.eosTokenIds) stops.add(id);
    const generated = sequence.tokens.view(sequence.promptTokens);
    const slot = this.#freeSlots.at(-1)!;
    const { grammar } = sequence.request;
    this.#device.openSlot(slot, slotSampling(request, sequence.seed, stops, generated, grammar));
    this.#freeSlots.pop();
    sequence.slot = slot;
  }

  #close(sequence: Sequence): void {
    this.#packing?.abandon(sequence);
    this.#device.closeSlot(sequence.slot);
    if (this.#packing) this.#packing.release(sequence);
    else this.#cache?.release(sequence.path);
    sequence.path = [];
    this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }
}

/** Nothing of the sequence is computed any more. */
function forget(sequence: Sequence): void {
  sequence.computedTokens = 0;
  sequence.packedTokens = 0;
  sequence.convertedTokens = 0;
}
