import { describe, expect, it } from 'vitest';
import { openPolicy } from '../../../engine/scheduler/open-policy.js';
import { Scheduler } from '../../../engine/scheduler/scheduler.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import { CountedMemory, CountedWork } from './counted-memory.js';
import { simplePredictor } from './history.js';

const units = 2;

/** Runs sequences that grow beyond the memory together. Returns those that lost their slot, and all in the order of their ends. */
function serve(works: readonly CountedWork[], hostPages: number) {
  const memory = new CountedMemory(works.length, 12, hostPages);
  const settings = { decodeSlack: 1.2, prefillShare: 0.5, budgetTokens: 512 };
  const scheduler = new Scheduler({
    memory,
    policy: openPolicy('chunked', settings, splitsOf(units, 1), simplePredictor(units)),
    order: 'fcfs',
    units,
    maxStepTokens: 512,
    plansAhead: false,
  });
  const lost = new Set<CountedWork>();
  const begun = new Set<CountedWork>();
  const ended: CountedWork[] = [];
  for (const work of works) scheduler.add(work);
  for (let nowMs = 0; ended.length < works.length; nowMs += 10) {
    const [plan] = scheduler.plan(nowMs);
    for (const work of works) {
      if (memory.held.has(work) && work.phase !== 'swappingOut') begun.add(work);
      else if (begun.has(work) && work.phase !== 'ended') lost.add(work);
    }
    for (const work of [...memory.leaving]) {
      memory.endSwapOut(work);
      scheduler.swappedOut(work);
    }
    for (const work of [...memory.returning]) {
      memory.endSwapIn(work);
      scheduler.swappedIn(work);
    }
    if (!plan) continue;
    scheduler.complete(plan, { seconds: 0.01, nowMs: nowMs + 5 });
    for (const { work } of plan.chunks) {
      if (work.phase !== 'decode') continue;
      work.generated++;
      if (work.remainingOutput > 0) continue;
      scheduler.end(work);
      ended.push(work);
    }
  }
  return { lost, ended };
}

const request = (serial: number, priority: number) => new CountedWork(serial, serial, 64, 180, priority);

describe('where running sequences outgrow the memory', () => {
  for (const [where, hostPages] of [
    ['to host memory', 100],
    ['to be computed anew', 0],
  ] as const) {
    it(`the one that came last gives way, ${where}`, () => {
      const [first, second, third] = [request(0, 0), request(1, 0), request(2, 0)];
      const { lost, ended } = serve([first, second, third], hostPages);
      expect([...lost]).toEqual([third, second]);
      expect(ended).toEqual([first, second, third]);
    });

    it(`the one of the lowest priority does, ${where}, whoever came first`, () => {
      const [low, high, middle] = [request(0, -1), request(1, 2), request(2, 0)];
      const { lost, ended } = serve([low, high, middle], hostPages);
      expect(lost.has(high)).toBe(false);
      expect([...lost][0]).toBe(low);
      expect(ended).toEqual([high, middle, low]);
    });
  }
});
