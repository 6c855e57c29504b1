import { describe, expect, it } from 'vitest';
import type { ProbeRun } from '../../../engine/kv/probes.js';
import { PrefillSight, SparsePrefill } from '../../../engine/kv/sparse-prefill.js';
import fc from '../../support/fast-check.js';

const layers = 2;
const rule = new SparsePrefill(0.9, layers, 32);

/** In the first layer all of a row's attention falls on the page of the half of its position, in the other on its own. */
function sumsOf({ position, count }: ProbeRun): Uint32Array {
  const pages = Math.floor((position + count - 1) / 32) + 1;
  const sums = new Uint32Array(layers * pages);
  for (let row = position; row < position + count; row++) {
    sums[Math.floor(row / 64)]! += 100;
    sums[pages + Math.floor(row / 32)]! += 100;
  }
  return sums;
}

/** The sight of a prompt that is read in such steps, and what each of its rows looks at. */
function readIn(promptTokens: number, steps: readonly number[]) {
  const sight = new PrefillSight(rule, promptTokens);
  const rows: (string | undefined)[] = [];
  for (let at = 0, step = 0; at < promptTokens; step++) {
    const end = Math.min(at + steps[step % steps.length]!, promptTokens, rule.nextAt(promptTokens, at));
    const seen = sight.at(at);
    for (let row = at; row < end; row++) rows.push(seen && `${seen.pages}: ${seen.isSeen.join('')}`);
    for (const run of rule.probesAmong(promptTokens, at, end)) sight.add(run, sumsOf(run));
    at = end;
  }
  return { sight, rows };
}

describe('sparse prefill', () => {
  it('looks at the first page, at two stretches, and between at the fewest pages with enough attention', () => {
    const { sight, rows } = readIn(1200, [256]);
    expect(rows.slice(0, 512).every((seen) => seen === undefined)).toBe(true);
    // The rows 736 to 767 look at page 11 in one layer, at their own in the other: these are read anyway.
    const third = sight.at(768)!;
    expect(third.pages).toBe(16);
    const pages = (layer: number) =>
      [...third.isSeen.subarray(16 * layer, 16 * (layer + 1))].flatMap((flag, page) => (flag ? [page] : []));
    expect(pages(0)).toEqual([0, 11]);
    expect(pages(1)).toEqual([0]);
    expect(third.tokens).toBe((3 * 32) / 2);
    expect(sight.contextAt(768 + 10)).toBe(778 - 512 + 48);
    // From the last stretch on that begins 64 tokens before the end, all.
    expect(rule.denseFrom(1200)).toBe(1024);
    expect(rows.slice(1024).every((seen) => seen === undefined)).toBe(true);
    expect(sight.contextAt(1100)).toBe(1100);
  });

  it('is the same however the prompt is read, and for all that begin alike', () => {
    const steps = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 600, max: 1500 }), (some, promptTokens) => {
        const { rows } = readIn(promptTokens, some);
        expect(rows).toEqual(readIn(promptTokens, [256]).rows);
        const common = Math.min(rule.commonTokens(promptTokens), rule.commonTokens(1500));
        expect(rows.slice(0, common)).toEqual(readIn(1500, [256]).rows.slice(0, common));
      }),
    );
  });

  it('goes on behind cached tokens where it knows how to look, with all its probes ahead', () => {
    const known =
      (...stretches: number[]) =>
      (stretch: number) =>
        stretches.includes(stretch);
    const usable = (tokens: number, isKnown: (stretch: number) => boolean, prompt = 2000) =>
      rule.usableTokens(prompt, tokens, isKnown);
    expect(usable(800, known(3))).toBe(800);
    expect(usable(768, known(3))).toBe(768);
    // The probes of the stretch from 768 on are its rows from 992 on.
    expect(usable(1000, known(3))).toBe(992);
    expect(usable(768, known(2))).toBe(736);
    expect(usable(768, known())).toBe(480);
    expect(usable(256, known())).toBe(256);
    // Rows that look everywhere need to know nothing.
    expect(usable(1792, known())).toBe(1792);
    expect(rule.denseFrom(2000)).toBe(1792);
  });

  it('does not let a row look before it is known where', () => {
    const sight = new PrefillSight(rule, 1200);
    expect(() => sight.at(768)).toThrow('no row before position 768 has said where its stretch looks');
  });
});
