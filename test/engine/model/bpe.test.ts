import { describe, expect, it } from 'vitest';
import { PairMerger } from '../../../engine/model/bpe.js';
import { MergeTable } from '../../../engine/model/merge-table.js';
import fc from '../../support/fast-check.js';

interface Merge {
  left: number;
  right: number;
  merged: number;
}

function tableOf(merges: readonly Merge[]): MergeTable {
  const table = new MergeTable(merges.length);
  for (const [rank, { left, right, merged }] of merges.entries()) table.add(left, right, rank, merged);
  return table;
}

/** The definition: again and again the pair of lowest rank, the leftmost of equals. */
function byDefinition(merges: readonly Merge[], symbols: readonly number[]): number[] {
  const left = [...symbols];
  for (;;) {
    let best: { rank: number; at: number } | undefined;
    for (let at = 0; at + 1 < left.length; at++) {
      const rank = merges.findIndex((merge) => merge.left === left[at] && merge.right === left[at + 1]);
      if (rank >= 0 && (!best || rank < best.rank)) best = { rank, at };
    }
    if (!best) return left;
    left.splice(best.at, 2, merges[best.rank]!.merged);
  }
}

function merged(table: MergeTable, symbols: readonly number[]): number[] {
  const buffer = Int32Array.from(symbols);
  return Array.from(buffer.subarray(0, new PairMerger(table).merge(buffer, buffer.length)));
}

/** Merges over the letters 0-3, each making a new token of tokens that are there already. */
const grammar = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 14 }).map((pairs) => {
  const merges: Merge[] = [];
  for (const [left, right] of pairs) {
    const tokens = 4 + merges.length;
    const merge = { left: left % tokens, right: right % tokens, merged: tokens };
    if (!merges.some((other) => other.left === merge.left && other.right === merge.right)) merges.push(merge);
  }
  return merges;
});

describe('byte-pair merging', () => {
  it('merges short words by the definition', () => {
    fc.assert(
      fc.property(grammar, fc.array(fc.nat(3), { maxLength: 32 }), (merges, symbols) => {
        expect(merged(tableOf(merges), symbols)).toEqual(byDefinition(merges, symbols));
      }),
      { numRuns: 2000 },
    );
  });

  it('merges long words by the definition', () => {
    fc.assert(
      fc.property(grammar, fc.array(fc.nat(3), { minLength: 33, maxLength: 120 }), (merges, symbols) => {
        expect(merged(tableOf(merges), symbols)).toEqual(byDefinition(merges, symbols));
      }),
      { numRuns: 1000 },
    );
  });

  it('keeps the better rank of a pair that is listed twice', () => {
    const table = tableOf([
      { left: 0, right: 1, merged: 5 },
      { left: 0, right: 1, merged: 6 },
    ]);
    expect(merged(table, [0, 1])).toEqual([5]);
  });

  // Doubling merges, so that every symbol takes part in many of them.
  const doubling = Array.from({ length: 12 }, (_, i) => ({ left: i, right: i, merged: i + 1 }));

  it.each([
    ['one letter over and over', () => 0],
    ['two letters in turn', (i: number) => i % 2],
    ['letters in runs of growing length', (i: number) => Number(Number.isInteger(Math.sqrt(i)))],
  ])('looks up pairs in proportion to the length of a word of %s', (_what, symbolAt) => {
    const lookupsFor = (length: number) => {
      const table = tableOf([
        ...doubling,
        { left: 0, right: 1, merged: 20 },
        { left: 20, right: 20, merged: 21 },
      ]);
      const symbols = Int32Array.from({ length }, (_, i) => symbolAt(i));
      new PairMerger(table).merge(symbols, length);
      return table.lookups;
    };
    for (const length of [1000, 30_000, 300_000]) expect(lookupsFor(length) / length).toBeLessThan(3.1);
  });
});
