import { describe, expect, it } from 'vitest';
import { policyNames } from '../../../engine/scheduler/open-policy.js';
import { History, type HistoryOptions } from './history.js';

/** Histories of 250 events for each policy and order; `npm run test:scheduler` runs 10,000, 25 million events in all. */
const histories = Number(process.env.HISTORIES ?? 60);

function runAll(options: Omit<HistoryOptions, 'seed' | 'events'>): void {
  let followed = 0;
  for (let seed = 0; seed < histories; seed++) {
    const history = new History({ ...options, seed, events: 250 });
    try {
      history.run();
      followed += history.followed;
    } catch (error) {
      throw new Error(`in the history of seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  // What is packed is packed between two steps, so none is planned while another runs.
  expect(followed > 0).toBe(!options.packs && !options.squeezes);
}

describe('scheduler, in random histories', () => {
  for (const policy of policyNames) {
    for (const order of ['spf', 'fcfs'] as const) {
      it(`${policy}, ${order}: no double booking, memory within its bounds, every sequence ends once`, () => {
        runAll({ policy, order });
      }, 36e5);
    }
    it(`${policy}, and others from time to time: the same`, () => {
      runAll({ policy, order: 'spf', changesPolicy: true });
    }, 36e5);
    it(`${policy}, packed KV: the same, and every token is computed behind what its place alone says`, () => {
      runAll({ policy, order: 'spf', packs: true });
    }, 36e5);
    it(`${policy}, squeezed when memory is short: the same`, () => {
      runAll({ policy, order: 'spf', squeezes: true });
    }, 36e5);
  }
});
