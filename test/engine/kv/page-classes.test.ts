import { describe, expect, it } from 'vitest';
import { pageClasses } from '../../../engine/device/device.js';
import { byAttention, chooseClasses, classesOf, keyOf, uniform } from '../../../engine/kv/page-classes.js';
import fc from '../../support/fast-check.js';

const flags = (tau: number, scores: number[], packable: number) =>
  [...byAttention(tau)(Float64Array.from(scores), packable)].join('');

describe('the pages that attention picks', () => {
  it('are the fewest that, with the recent ones, receive the part tau of all attention', () => {
    const scores = [40, 5, 30, 5, 10, 10];
    // The last page is a recent one.
    expect(flags(0.5, scores, 5)).toBe('10000');
    expect(flags(0.51, scores, 5)).toBe('10100');
    expect(flags(0.9, scores, 5)).toBe('10101');
    expect(flags(0.1, scores, 5)).toBe('00000');
    // Of those that receive as much the earlier one.
    expect(flags(0.95, scores, 5)).toBe('11101');
  });

  it('are all of them at tau 1, and none where nobody looked', () => {
    expect(flags(1, [1, 0, 0.1, 0.2], 3)).toBe('111');
    expect(flags(0.99, [0, 0, 0], 3)).toBe('000');
  });

  it('leave less than 1 - tau to the others, and none too many', () => {
    const cases = fc.record({
      scores: fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 2, maxLength: 40 }),
      tau: fc.double({ min: 0, max: 0.999, noNaN: true }),
    });
    fc.assert(
      fc.property(cases, ({ scores, tau }) => {
        const packable = scores.length - 1;
        const picked = byAttention(tau)(Float64Array.from(scores), packable);
        const total = scores.reduce((sum, score) => sum + score, 0);
        const kept = scores.filter((_, page) => page >= packable || picked[page]);
        const covered = kept.reduce((sum, score) => sum + score, 0);
        expect(covered).toBeGreaterThanOrEqual(tau * total - 1e-9);
        const least = Math.min(...scores.filter((_, page) => picked[page]));
        if (least < Number.POSITIVE_INFINITY) expect(covered - least).toBeLessThan(tau * total);
        for (const [page, score] of scores.slice(0, packable).entries()) {
          if (!picked[page]) expect(score).toBeLessThanOrEqual(least);
        }
      }),
    );
  });

  it('have their class in each layer by itself', () => {
    const form = { high: 'int8', low: 'none', pick: byAttention(0.6) } as const;
    const scores = [Float64Array.of(9, 1, 1, 0), Float64Array.of(1, 9, 9, 0)];
    const names = (classes: Uint8Array) => [...classes].map((place) => pageClasses[place]);
    // Block 1, then block 2: layer 0, layer 1.
    expect(names(chooseClasses(form, scores, 1, 3))).toEqual(['none', 'int8', 'none', 'int8']);
    expect(names(chooseClasses(uniform('int4'), scores, 0, 1))).toEqual(['int4', 'int4']);
  });

  it('are told apart by keys', () => {
    const classes = Uint8Array.of(0, 4, 2);
    expect(classesOf(keyOf(classes), 3)).toEqual(classes);
    const after = Uint8Array.of(2, 4, 3);
    expect(classesOf(keyOf(after, keyOf(classes)), 3)).toEqual(after);
    expect(keyOf(after, keyOf(classes))).not.toBe(keyOf(after));
    expect(keyOf(Uint8Array.of(0, 4, 3))).not.toBe(keyOf(classes));
  });
});
