import { describe, expect, it } from 'vitest';
import type { KvPool } from '../../../engine/device/device.js';
import { FreeMemory } from '../../../engine/kv/free-memory.js';
import type { PrefixCache } from '../../../engine/kv/prefix-cache.js';

/** A pool of so many free blocks, as many that lie scattered, and as many that a cache keeps. */
function memoryOf(free: number, scattered: number, kept: number): { memory: FreeMemory; asked: string[] } {
  const asked: string[] = [];
  const pool = {
    freeBlocks: () => free,
    compact: (blocks: number) => {
      asked.push(`compact ${blocks}`);
      if (blocks > scattered) return false;
      free += blocks;
      scattered -= blocks;
      return true;
    },
  };
  const cache = {
    get evictableBlocks() {
      return kept;
    },
    evict: (blocks: number) => {
      asked.push(`evict ${blocks}`);
      const evicted = Math.min(blocks, kept);
      kept -= evicted;
      free += evicted;
      return evicted;
    },
  };
  const memory = new FreeMemory(pool as unknown as KvPool, cache as unknown as PrefixCache, undefined);
  return { memory, asked };
}

describe('free memory', () => {
  it('counts what is kept for later requests, and what lies scattered only once that is moved together', () => {
    const { memory, asked } = memoryOf(3, 4, 2);
    expect(memory.blocks).toBe(5);
    expect(memory.make(5)).toBe(true);
    expect(asked).toEqual([]);
    expect(memory.make(10)).toBe(false);
    expect(memory.make(9)).toBe(true);
    expect(asked).toEqual(['compact 5', 'compact 4']);
    expect(memory.blocks).toBe(9);
  });

  it('gives up what is kept when nothing lies scattered any more', () => {
    const { memory, asked } = memoryOf(0, 1, 2);
    expect([1, 2, 3].map(() => memory.vacate(1))).toEqual([true, true, true]);
    expect(memory.vacate(1)).toBe(false);
    expect(asked).toEqual([
      'compact 1',
      'compact 1',
      'evict 1',
      'compact 1',
      'evict 1',
      'compact 1',
      'evict 1',
    ]);
  });
});
