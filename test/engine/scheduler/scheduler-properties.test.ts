import { describe, it } from 'vitest';
import { policyNames } from '../../../engine/scheduler/open-policy.js';
import { History } from './history.js';

/** Random histories a policy and order; `npm run test:scheduler` runs 100,000 of each, a million in all. */
const histories = Number(process.env.TANDEM_TEST_HISTORIES ?? 60);

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
