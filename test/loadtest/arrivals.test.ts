import { describe, expect, it } from 'vitest';
import { Random } from '../../loadtest/random.js';
import { poissonArrivals } from '../../loadtest/serve/arrivals.js';

describe('arrivals', () => {
  const rate = 8;
  const arrivals = poissonArrivals(rate, 20_000, new Random(11));
  const gaps = arrivals.map((at, index) => at - (arrivals[index - 1] ?? 0));

  it('rise, and come at the rate on average', () => {
    expect(gaps.every((gap) => gap > 0)).toBe(true);
    // The standard error is 0.7%.
    expect(Math.abs(arrivals.length / arrivals.at(-1)! / rate - 1)).toBeLessThan(0.03);
  });

  it('are a Poisson process: gaps vary as much as they are long', () => {
    const mean = 1 / rate;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    expect(Math.abs(Math.sqrt(variance) / mean - 1)).toBeLessThan(0.05);
  });

  it('are the same for the same seed, and others for another', () => {
    expect(poissonArrivals(rate, 50, new Random(11))).toEqual(arrivals.slice(0, 50));
    expect(poissonArrivals(rate, 50, new Random(12))).not.toEqual(arrivals.slice(0, 50));
  });
});
