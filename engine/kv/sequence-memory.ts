import type { Device, SwappedKv } from '../device/device.js';
import { slotSampling } from '../sampling/params.js';
import type { Memory } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { PrefixCache } from './prefix-cache.js';

export interface SequenceMemoryOptions {
  readonly device: Device;
  readonly cache: PrefixCache | undefined;
  readonly eosTokenIds: readonly number[];
  /** Bytes of host memory for the KV of pre-empted sequences. */
  readonly swapBytes: number;
  readonly onSwappedOut: (sequence: Sequence) => void;
  readonly onSwappedIn: (sequence: Sequence) => void;
}

/** The slots and the KV pool of a device, with the prefix cache over it, as the scheduler asks for them. */
export class SequenceMemory implements Memory<Sequence> {
  readonly pageTokens: number;
  readonly #device: Device;
  readonly #cache: PrefixCache | undefined;
  readonly #options: SequenceMemoryOptions;
  readonly #freeSlots: number[];
  readonly #bytesPerToken: number;
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
    this.#bytesPerToken = kv.blockBytes / kv.pageTokens;
    this.#freeSlots = Array.from({ length: info.slots }, (_, i) => info.slots - 1 - i);
  }

  get openSlots(): number {
    return this.#device.info.slots - this.#freeSlots.length;
  }

  /** Whether a copy to or from host memory runs: the device must not be closed. */
  get isCopying(): boolean {
    return this.#copies > 0;
  }

  /** Bytes of host memory that hold swapped sequences, or will. */
  get swappedBytes(): number {
    return this.#swappedBytes;
  }

  kvBytesPerToken(): number {
    return this.#bytesPerToken;
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
    const needed = blocksFor(sequence.tokenCount + reserveTokens, this.pageTokens) - path.length;
    if (needed > this.#availableBlocks() - idle) return false;
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
    this.share(sequence);
    this.#close(sequence);
  }

  /** Lets the cache have the sequence's full blocks. */
  share(sequence: Sequence): void {
    if (sequence.isScored) return;
    this.#cache?.extend(sequence.path, sequence.slot, sequence.tokens.view(0, sequence.computedTokens));
  }

  canSwap(sequence: Sequence): boolean {
    return !sequence.isScored && this.#swappedBytes + this.#swapBytes(sequence) <= this.#options.swapBytes;
  }

  swapOut(sequence: Sequence): void {
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
        sequence.computedTokens = 0;
        this.#close(sequence);
        this.#options.onSwappedOut(sequence);
      },
    );
  }

  swapIn(sequence: Sequence, reserveTokens: number): boolean {
    if (this.#freeSlots.length === 0) return false;
    const needed = blocksFor(sequence.tokenCount + reserveTokens, this.pageTokens);
    if (needed > this.#availableBlocks()) return false;
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
        if (!isRestored) sequence.computedTokens = 0;
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
    return blocksFor(sequence.computedTokens, this.pageTokens) * this.#device.kv.blockBytes;
  }

  #availableBlocks(): number {
    return this.#device.kv.freeBlocks() + (this.#cache?.evictableBlocks ?? 0);
  }

  #match(sequence: Sequence) {
    return sequence.isScored ? [] : (this.#cache?.match(sequence.tokens.view()) ?? []);
  }

  #open(sequence: Sequence): void {
    const { request } = sequence.request;
    const stops = new Set(request.stopTokenIds);
    if (!request.ignoreEos) for (const id of this.#options.eosTokenIds) stops.add(id);
    const generated = sequence.tokens.view(sequence.promptTokens);
    const slot = this.#freeSlots.at(-1)!;
    this.#device.openSlot(slot, slotSampling(request, sequence.seed, stops, generated));
    this.#freeSlots.pop();
    sequence.slot = slot;
  }

  #close(sequence: Sequence): void {
    this.#device.closeSlot(sequence.slot);
    this.#cache?.release(sequence.path);
    sequence.path = [];
    this.#freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }
}
