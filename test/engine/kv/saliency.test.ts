import { describe, expect, it } from 'vitest';
import { type ProbeRun, probesAmong } from '../../../engine/kv/probes.js';
import { Saliency } from '../../../engine/kv/saliency.js';
import fc from '../../support/fast-check.js';

const layers = 2;

/** Every page that a row sees receives as much as its number says, in the second layer ten times that. */
function sumsOf({ position, count }: ProbeRun): Uint32Array {
  const pages = Math.floor((position + count - 1) / 32) + 1;
  const sums = new Uint32Array(layers * pages);
  for (let row = position; row < position + count; row++) {
    for (let page = 0; page <= Math.floor(row / 32); page++) {
      sums[page]! += page + row;
      sums[pages + page]! += 10 * (page + row);
    }
  }
  return sums;
}

function readIn(prompt: number, steps: readonly number[]): Saliency {
  const saliency = new Saliency(prompt, layers, 32);
  let position = 0;
  for (const step of steps) {
    for (const run of probesAmong(prompt, position, position + step)) saliency.add(run, sumsOf(run));
    position += step;
  }
  return saliency;
}

describe('probes', () => {
  it('are the last 16 rows of a prompt, and every eighth behind it, however they are computed', () => {
    expect(probesAmong(100, 0, 100)).toEqual([{ position: 84, count: 16 }]);
    expect(probesAmong(100, 90, 111)).toEqual([
      { position: 90, count: 10 },
      { position: 103, count: 1 },
    ]);
    expect(probesAmong(10, 0, 9)).toEqual([{ position: 0, count: 9 }]);
    expect(probesAmong(100, 0, 84)).toEqual([]);
    expect(probesAmong(0, 0, 16).map(({ position }) => position)).toEqual([7, 15]);
  });
});

describe('saliency', () => {
  it('is the mean over the rows that see a page, in windows that end at the prompt and then every 64 tokens', () => {
    const saliency = readIn(160, [160, ...new Array(161).fill(1)]);
    const mean = (rows: readonly number[], page: number) =>
      rows.reduce((sum, row) => sum + (row >= 32 * page ? page + row : 0), 0) /
      rows.reduce((sum, row) => sum + Math.min(1, Math.max(0, (row + 1 - 32 * page) / 32)), 0);
    const range = (begin: number, end: number, step = 1) =>
      Array.from({ length: Math.ceil((end - begin) / step) }, (_, index) => begin + index * step);
    const fresh = readIn(160, [160]);
    const [first, second] = fresh.scoresAt(160);
    expect(first).toHaveLength(5);
    for (const page of [0, 2, 3, 4]) {
      expect(first![page]).toBeCloseTo(mean(range(144, 160), page), 9);
      expect(second![page]).toBeCloseTo(10 * mean(range(144, 160), page), 9);
    }
    // The window before the last one and the last: [160, 224) and [224, 288).
    expect(saliency.scoresAt(288)[0]![3]).toBeCloseTo(mean(range(167, 288, 8), 3), 9);
  });

  it('does not depend on how the rows came, and not on those behind the cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 200 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 8 }),
        (prompt, chunks) => {
          const cut = Math.floor((prompt + 96) / 64) * 64 + 32;
          const end = cut + 40;
          const steps: number[] = [];
          for (let left = prompt, at = 0; left > 0; at++) {
            steps.push(Math.min(left, chunks[at % chunks.length]!));
            left -= steps.at(-1)!;
          }
          const decoded = new Array(end - prompt).fill(1);
          const expected = readIn(prompt, [prompt, ...decoded.slice(0, cut - prompt)]).scoresAt(cut);
          expect(readIn(prompt, [...steps, ...decoded]).scoresAt(cut)).toEqual(expected);
        },
      ),
    );
  });

  it('goes on in a copy by itself, and counts a row once', () => {
    const saliency = readIn(100, [100]);
    const copy = saliency.copy();
    const run = { position: 99, count: 1 };
    copy.add(run, sumsOf(run));
    expect(copy.scoresAt(100)).toEqual(readIn(100, [100]).scoresAt(100));
    const next = { position: 103, count: 1 };
    copy.add(next, sumsOf(next));
    expect(saliency.scoresAt(160)).not.toEqual(copy.scoresAt(160));
  });
});
