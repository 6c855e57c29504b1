import type { KvPool } from '../device/device.js';
import type { CacheStats } from '../types.js';
import type { Continuation, KeptSequences } from './kept-sequences.js';
import type { PrefixCache } from './prefix-cache.js';

/** What of the KV memory can be had: free blocks, and those that nobody runs on and that are kept for later requests. */
export class FreeMemory {
  constructor(
    private readonly kv: KvPool,
    private readonly cache: PrefixCache | undefined,
    /** Absent where sequences are not held in partitions, or nothing is kept for others. */
    private readonly kept: KeptSequences | undefined,
  ) {}

  /** Without what ended sequences have left, which must be given up first. */
  get blocks(): number {
    return this.kv.freeBlocks() + (this.cache?.evictableBlocks ?? 0);
  }

  /** Part of the memory that running sequences hold, 0 to 1. */
  get usage(): number {
    return 1 - (this.blocks + (this.kept?.blocks ?? 0)) / this.kv.totalBlocks;
  }

  /** Of the prefix cache, and what sequences in partitions have left. */
  get cacheStats(): CacheStats {
    const none = { blocks: 0, hitTokens: 0, queriedTokens: 0, evictedBlocks: 0 };
    const stats = this.cache?.stats() ?? none;
    if (!this.kept) return stats;
    const { blocks, evictedBlocks } = this.kept;
    return {
      ...stats,
      blocks: stats.blocks + blocks,
      evictedBlocks: stats.evictedBlocks + evictedBlocks,
    };
  }

  /**
   * Whether so many blocks can be had, but for those of `spared`: pages are moved together for that, and what ended sequences
   * have left is given up.
   */
  make(blocks: number, spared?: Continuation): boolean {
    while (blocks > this.blocks) {
      if (!this.kv.compact(blocks - this.blocks) && !this.kept?.evict(spared?.kept)) return false;
    }
    return true;
  }

  /** Has so many blocks of those that can be had be free. */
  clear(blocks: number): void {
    const missing = blocks - this.kv.freeBlocks();
    if (missing > 0) this.cache?.evict(missing);
  }

  /** Has all be free that nobody runs on. */
  clearAll(): void {
    this.clear(this.kv.totalBlocks);
    while (this.kept?.evict());
  }

  /** Has so many more blocks be free, if they can be: what is kept for others goes last. False if none came free. */
  vacate(blocks: number): boolean {
    return this.kv.compact(blocks) || (this.cache?.evict(blocks) ?? 0) > 0 || (this.kept?.evict() ?? false);
  }
}
