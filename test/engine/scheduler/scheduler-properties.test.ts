import { describe, it } from 'vitest';
import { policyNames } from '../../../engine/scheduler/open-policy.js';
import { History } from './history.js';

/** Histories of 250 events for each policy and order; `npm run test:scheduler` runs 10,000, 25 million events in all. */
const histories = Number(process.env.HISTORIES ?? 60);

describe('scheduler, in random histories', () => {
  for (const policy of policyNames) {
    for (const order of ['spf', 'fcfs'] as const) {
      it(`${policy}, ${order}: no double booking, memory within its bounds, every sequence ends once`, () => {
        for (let seed = 0; seed < histories; seed++) {
          const history = new History({ seed, policy, order, events: 250 });
          try {
            history.run();
          } catch (error) {
            throw new Error(`in the history of seed ${seed}: ${(error as Error).message}`, { cause: error });
          }
        }
      }, 36e5);
    }
  }
});
