import { simulate } from './run.js';
import { type RunSummary, summarize } from './summary.js';
import type { Load, Variant } from './variant.js';

export interface Capacity {
  /** Highest rate at which enough requests meet their objectives; 0 if there is none. */
  readonly rate: number;
  /** The run at that rate; null if there is none. */
  readonly run: RunSummary | null;
}

/** Arrivals go on for this long at least: a queue must have time to grow beyond what the objectives forgive. */
const leastSeconds = 120;
/** Part of what came that goodput must reach, so that a queue which grows without end is not taken for a carried rate. */
const keepsUp = 0.9;
const lowestRate = 1 / 64;
const highestRate = 4096;
/** Halvings between a rate that is carried and twice that: to 2.2%. */
const halvings = 5;

/**
 * The highest rate one setup carries, by doubling and halving. With `attain` of the requests' objectives met it counts
 * as carried; `from` is where the search begins.
 */
export function findCapacity(load: Load, { label, ...options }: Variant, attain: number, from = 1): Capacity {
  const at = (rate: number) => {
    const requests = Math.min(load.workload.count, Math.max(load.requests, Math.ceil(rate * leastSeconds)));
    return summarize(simulate({ ...load, ...options, rate, requests }), label);
  };
  const isCarried = (run: RunSummary) =>
    run.attained >= attain && run.goodput >= keepsUp * attain * run.offered;
  let run = at(from);
  let carried: RunSummary | null = isCarried(run) ? run : null;
  let low = from;
  let high = from;
  if (carried) {
    while (high < highestRate) {
      high *= 2;
      run = at(high);
      if (!isCarried(run)) break;
      carried = run;
      low = high;
    }
    if (low === high) return { rate: low, run: carried };
  } else {
    while (!carried && low > lowestRate) {
      high = low;
      low /= 2;
      run = at(low);
      if (isCarried(run)) carried = run;
    }
    if (!carried) return { rate: 0, run: null };
  }
  for (let step = 0; step < halvings; step++) {
    const middle = Math.sqrt(low * high);
    run = at(middle);
    if (isCarried(run)) {
      low = middle;
      carried = run;
    } else high = middle;
  }
  return { rate: low, run: carried };
}
