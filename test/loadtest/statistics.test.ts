import { describe, expect, it } from 'vitest';
import { distributionOf, median, percentileOfSorted } from '../../loadtest/statistics.js';
import fc from '../support/fast-check.js';

const values = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 2, maxLength: 60 });
const run = { seed: 1, numRuns: 300 };

/** The value that has at most k values below it and more than k up to it: counted, not sorted. */
function orderStatistic(all: readonly number[], k: number): number {
  return all.find(
    (value) =>
      all.filter((other) => other < value).length <= k && all.filter((other) => other <= value).length > k,
  )!;
}

describe('percentiles', () => {
  it('are the order statistics at their places, and the mean of two half-way between', () => {
    fc.assert(
      fc.property(values, (all) => {
        const sorted = Float64Array.from(all).sort();
        for (let k = 0; k + 1 < all.length; k += 1) {
          const [here, next] = [orderStatistic(all, k), orderStatistic(all, k + 1)];
          const at = (position: number) => percentileOfSorted(sorted, position / (all.length - 1));
          expect(Math.abs(at(k) - here)).toBeLessThan(1e-6);
          expect(Math.abs(at(k + 0.5) - (here + next) / 2)).toBeLessThan(1e-6);
        }
      }),
      run,
    );
  });

  it("equal numpy's on a known example", () => {
    // numpy.percentile([15, 20, 35, 40, 50], [50, 95, 99])
    const { p50, p95, p99, mean, max, count } = distributionOf([35, 15, 50, 20, 40]);
    expect({ p50, mean, max, count }).toEqual({ p50: 35, mean: 32, max: 50, count: 5 });
    expect(p95).toBeCloseTo(48, 9);
    expect(p99).toBeCloseTo(49.6, 9);
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  it('rise with the share, from the least value to the largest', () => {
    fc.assert(
      fc.property(values, (all) => {
        const { p50, p95, p99, max, mean } = distributionOf(all);
        const least = Math.min(...all);
        expect([least, p50, p95, p99, max]).toEqual([least, p50, p95, p99, max].sort((a, b) => a - b));
        expect(max).toBe(Math.max(...all));
        expect(mean).toBeGreaterThanOrEqual(least - 1e-6);
        expect(mean).toBeLessThanOrEqual(max + 1e-6);
      }),
      run,
    );
  });

  it('are NaN where nothing was measured, so that no row can be made of them', () => {
    const { count, ...figures } = distributionOf([]);
    expect(count).toBe(0);
    expect(Object.values(figures).every(Number.isNaN)).toBe(true);
    expect(median([])).toBeNaN();
  });
});
