import { describe, expect, it } from 'vitest';
import { WordCache } from '../../../engine/model/word-cache.js';

describe('word cache', () => {
  it('never holds more than two generations', () => {
    const cache = new WordCache(10);
    for (let i = 0; i < 1000; i++) {
      cache.set(`word ${i}`, i);
      expect(cache.size).toBeLessThanOrEqual(20);
    }
  });

  it('keeps a word that is in use and drops one that is not', () => {
    const cache = new WordCache(10);
    cache.set('used', 1);
    cache.set('unused', 2);
    for (let i = 0; i < 100; i++) {
      cache.set(`word ${i}`, i);
      expect(cache.get('used')).toBe(1);
    }
    expect(cache.get('unused')).toBeUndefined();
  });
});
