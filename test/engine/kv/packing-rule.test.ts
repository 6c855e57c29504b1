import { describe, expect, it } from 'vitest';
import { PackingRule } from '../../../engine/kv/packing-rule.js';
import { uniform } from '../../../engine/kv/page-classes.js';
import fc from '../../support/fast-check.js';

const cases = fc.record({
  recent: fc.integer({ min: 1, max: 300 }),
  prompt: fc.integer({ min: 1, max: 1000 }),
  position: fc.integer({ min: 0, max: 2000 }),
});
const check = (holds: (rule: PackingRule, prompt: number, position: number) => void) =>
  fc.assert(
    fc.property(cases, ({ recent, prompt, position }) =>
      holds(new PackingRule(uniform('int4'), recent, 32), prompt, position),
    ),
  );

describe('packing rule', () => {
  it('packs by the prompt and the position: nothing before its end, then all but the recent, every 64 tokens', () => {
    const rule = new PackingRule(uniform('int4'), 128, 32);
    expect([0, 500, 999].map((position) => rule.packedAt(1000, position))).toEqual([0, 0, 0]);
    expect([1000, 1023, 1024, 1087, 1088].map((position) => rule.packedAt(1000, position))).toEqual([
      864, 864, 896, 896, 960,
    ]);
    expect([10, 159, 191, 192, 256].map((position) => rule.packedAt(10, position))).toEqual([
      0, 0, 0, 64, 128,
    ]);
  });

  it('leaves nothing exact of a prompt that was read, or all that is not packed where recent tokens are to be', () => {
    const rule = new PackingRule(uniform('int4'), 128, 32);
    expect([0, 999, 1000, 2000].map((position) => rule.roundedAt(1000, position))).toEqual([
      0, 0, 1000, 1000,
    ]);
    expect([rule.exactTokens(1000), rule.exactTokens(10)]).toEqual([1000, 10]);
    const exact = new PackingRule(uniform('int4'), 128, 32, 'bf16');
    expect(exact.roundedAt(1000, 2000)).toBe(0);
    expect([exact.exactTokens(1000), exact.exactTokens(10), exact.exactTokens(159)]).toEqual([
      1000, 192, 192,
    ]);
  });

  it('packs whole pages, never the recent tokens, and never less than before', () => {
    check((rule, prompt, position) => {
      const packed = rule.packedAt(prompt, position);
      expect(packed % 32).toBe(0);
      expect(packed).toBeLessThanOrEqual(Math.max(0, position - rule.recentTokens));
      expect(packed).toBeLessThanOrEqual(rule.packedAt(prompt, position + 1));
      if (position >= prompt) expect(position - packed).toBeLessThanOrEqual(rule.mostRecentTokens);
    });
  });

  it('says where more is converted next', () => {
    check((rule, prompt, position) => {
      const convertedAt = (at: number) => rule.packedAt(prompt, at) + rule.roundedAt(prompt, at);
      const next = rule.nextAt(prompt, position);
      expect(next).toBeGreaterThan(position);
      expect(convertedAt(next)).toBeGreaterThan(convertedAt(position));
      expect(convertedAt(next - 1)).toBe(convertedAt(position));
    });
  });
});
