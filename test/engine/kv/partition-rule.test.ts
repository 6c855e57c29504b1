import { describe, expect, it } from 'vitest';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import { droppedAt } from '../../support/dropped-tokens.js';
import fc from '../../support/fast-check.js';

const pageTokens = 32;

describe('the rule of partitions', () => {
  it('says by position alone what is exact, packed and dropped', () => {
    const rule = new PartitionRule(
      { sinkTokens: 50, recentTokens: 512, midTokens: 1024, topPages: 4 },
      pageTokens,
    );
    expect(rule.sinkTokens).toBe(64);
    expect(rule.stride).toBe(256);
    expect([0, 767, 768, 1023, 1024, 1856, 2047, 2048].map((at) => rule.midEndAt(at))).toEqual([
      64, 64, 256, 256, 512, 1280, 1280, 1536,
    ]);
    expect([0, 1024, 1792, 2048, 10_240].map((at) => droppedAt(rule, at))).toEqual([0, 0, 192, 448, 8640]);
    expect([0, 255, 256].map((at) => rule.nextAt(at))).toEqual([256, 256, 512]);
  });

  it('bounds what is held and what is seen, for sequences of any length', () => {
    const sizes = fc.record({
      sinkTokens: fc.integer({ min: 32, max: 300 }),
      recentTokens: fc.integer({ min: 32, max: 1500 }),
      midTokens: fc.integer({ min: 32, max: 5000 }),
      topPages: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 2 ** 24 }), (chosen, position) => {
        const rule = new PartitionRule(chosen, pageTokens);
        const midEnd = rule.midEndAt(position);
        const dropped = droppedAt(rule, position);
        const mid = midEnd - rule.sinkTokens - dropped;
        for (const tokens of [midEnd, dropped, mid, rule.stride]) expect(tokens % pageTokens).toBe(0);
        expect(mid).toBeGreaterThanOrEqual(0);
        expect(mid).toBeLessThanOrEqual(rule.midTokens);
        // What a token sees exactly, itself included.
        const exact = position + 1 - dropped - mid;
        expect(exact).toBeLessThanOrEqual(rule.mostExact);
        expect(exact + mid).toBeLessThanOrEqual(rule.mostHeld);
        if (mid > 0) expect(position - midEnd).toBeGreaterThanOrEqual(rule.recentTokens);
        expect(exact + Math.min(mid, rule.topPages * pageTokens)).toBeLessThanOrEqual(rule.mostSeen);
        // Nothing moves before the next position at which something does, and nothing ever comes back.
        const next = rule.nextAt(position);
        expect(rule.midEndAt(next - 1)).toBe(midEnd);
        expect(droppedAt(rule, next - 1)).toBe(dropped);
        expect(rule.midEndAt(next)).toBeGreaterThanOrEqual(midEnd);
        // What moves next is full by now, so that it can be packed ahead.
        expect(rule.midEndAt(next)).toBeLessThanOrEqual(Math.max(rule.sinkTokens, position));
      }),
      { numRuns: 300 },
    );
  });
});
