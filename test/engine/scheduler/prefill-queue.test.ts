import { describe, expect, it } from 'vitest';
import {
  agingTokensPerSecond,
  type PrefillOrder,
  PrefillQueue,
  type PrefillWork,
} from '../../../engine/scheduler/prefill-queue.js';
import fc from '../../support/fast-check.js';

function prompt(remainingTokens: number, arrivalMs: number, over: Partial<PrefillWork> = {}): PrefillWork {
  return { remainingTokens, arrivalMs, priority: 0, deadlineMs: Number.POSITIVE_INFINITY, ...over };
}

function drained(queue: PrefillQueue<PrefillWork>, nowMs: number): PrefillWork[] {
  const order: PrefillWork[] = [];
  for (let next = queue.first(nowMs); next; next = queue.first(nowMs)) {
    order.push(next);
    queue.remove(next);
  }
  return order;
}

describe('prefill queue', () => {
  it('lets the shortest prompt go first', () => {
    const queue = new PrefillQueue();
    const [long, short, middle] = [prompt(900, 0), prompt(10, 1), prompt(100, 2)];
    for (const work of [long, short, middle]) queue.add(work);
    expect(drained(queue, 3)).toEqual([short, middle, long]);
  });

  it('lets a long prompt pass one that came so much later', () => {
    const long = prompt(300, 0);
    const seconds = 290 / agingTokensPerSecond;
    for (const [arrivalMs, first] of [
      [1000 * seconds - 1, 'short'],
      [1000 * seconds + 1, 'long'],
    ] as const) {
      const queue = new PrefillQueue();
      const short = prompt(10, arrivalMs);
      queue.add(short);
      queue.add(long);
      expect(queue.first(arrivalMs)).toBe(first === 'short' ? short : long);
    }
  });

  it('keeps the order of arrival under fcfs, whatever the lengths', () => {
    const queue = new PrefillQueue('fcfs');
    const works = [prompt(900, 0), prompt(10, 1), prompt(100, 1), prompt(1, 2)];
    for (const work of [works[1]!, works[0]!, works[2]!, works[3]!]) queue.add(work);
    expect(drained(queue, 3)).toEqual(works);
  });

  it('puts higher priorities first', () => {
    for (const order of ['spf', 'fcfs'] as const) {
      const queue = new PrefillQueue(order);
      const [usual, high, low] = [
        prompt(10, 0),
        prompt(4000, 5, { priority: 1 }),
        prompt(1, 0, { priority: -1 }),
      ];
      for (const work of [usual, high, low]) queue.add(work);
      expect(drained(queue, 6)).toEqual([high, usual, low]);
    }
  });

  it('moves a prompt to the front while its deadline is near and can be met', () => {
    const queue = new PrefillQueue();
    const short = prompt(10, 0);
    const due = prompt(5000, 0, { deadlineMs: 10_000 });
    queue.add(short);
    queue.add(due);
    expect(queue.first(1000)).toBe(short);
    expect(queue.first(9500)).toBe(due);
    expect(queue.first(10_001)).toBe(short);
  });

  it('passes over those that may not run', () => {
    const queue = new PrefillQueue();
    const [first, second] = [prompt(1, 0), prompt(2, 0)];
    queue.add(first);
    queue.add(second);
    expect(queue.first(0, (work) => work !== first)).toBe(second);
    expect(queue.first(0, () => false)).toBeUndefined();
  });

  it('equals a stable sort, whatever comes and goes', () => {
    const works = fc.array(
      fc.record({
        remainingTokens: fc.integer({ min: 1, max: 50 }),
        arrivalMs: fc.integer({ min: 0, max: 5000 }),
        priority: fc.integer({ min: -1, max: 1 }),
        leaves: fc.boolean(),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(works, fc.constantFrom<PrefillOrder>('spf', 'fcfs'), (records, order) => {
        const queue = new PrefillQueue(order);
        const all = records.map(({ leaves, ...record }) => ({ leaves, ...prompt(0, 0), ...record }));
        for (const work of all) queue.add(work);
        for (const work of all) if (work.leaves) expect(queue.remove(work)).toBe(true);
        for (const work of all) if (work.leaves) expect(queue.remove(work)).toBe(false);
        const score = (work: PrefillWork) =>
          (order === 'spf' ? work.remainingTokens : 0) + 0.015 * work.arrivalMs - 4096 * work.priority;
        const expected = all
          .filter(({ leaves }) => !leaves)
          .sort((a, b) => Math.sign(Math.round(1e6 * (score(a) - score(b)))) || a.arrivalMs - b.arrivalMs);
        expect(queue.size).toBe(expected.length);
        const found = drained(queue, 0).map((work) => [score(work).toFixed(6), work.arrivalMs]);
        expect(found).toEqual(expected.map((work) => [score(work).toFixed(6), work.arrivalMs]));
      }),
    );
  });
});
