import { describe, expect, it } from 'vitest';
import { Histogram } from '../../../loadtest/simulate/histogram.js';
import { TimeSeries } from '../../../loadtest/simulate/time-series.js';
import fc from '../../support/fast-check.js';

describe('the histogram', () => {
  it('knows every percentile to one percent, and mean and maximum exactly', () => {
    const values = fc.array(fc.double({ min: 0.01, max: 1e7, noNaN: true }), {
      minLength: 1,
      maxLength: 300,
    });
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (numbers, p) => {
        const histogram = new Histogram();
        for (const value of numbers) histogram.add(value);
        const sorted = Float64Array.from(numbers).sort();
        const exact = sorted[Math.floor(p * (sorted.length - 1))]!;
        expect(Math.abs(Math.log(histogram.percentile(p) / exact))).toBeLessThanOrEqual(0.0101);
        expect(histogram.max).toBe(sorted.at(-1));
        expect(histogram.mean).toBeCloseTo(
          numbers.reduce((sum, value) => sum + value, 0) / numbers.length,
          3,
        );
        expect(histogram.count).toBe(numbers.length);
      }),
    );
  });

  it('ends its cumulative distribution at one', () => {
    const histogram = new Histogram();
    for (const value of [1, 10, 10, 100]) histogram.add(value);
    expect(histogram.cumulative().map(({ share }) => share)).toEqual([0.25, 0.75, 1]);
  });

  it('says of nothing that it knows nothing', () => {
    const histogram = new Histogram();
    expect(histogram.mean).toBeNaN();
    expect(histogram.max).toBeNaN();
    expect(histogram.percentile(0.5)).toBeNaN();
  });
});

describe('the time series', () => {
  it('keeps the mean over time, however long that gets', () => {
    const piece = fc.record({
      seconds: fc.double({ min: 1e-3, max: 1000, noNaN: true }),
      value: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 50 }), (pieces) => {
        const series = new TimeSeries();
        let at = 0;
        for (const { seconds, value } of pieces) {
          series.add(at, at + seconds, value);
          at += seconds;
        }
        const points = series.points();
        expect(points.length).toBeLessThanOrEqual(256);
        const values = pieces.map(({ value }) => value);
        for (const { value } of points) {
          expect(value).toBeGreaterThanOrEqual(Math.min(...values) - 1e-9);
          expect(value).toBeLessThanOrEqual(Math.max(...values) + 1e-9);
        }
      }),
    );
  });

  it('shows a step where it was', () => {
    const series = new TimeSeries();
    series.add(0, 500, 0.2);
    series.add(500, 1000, 0.8);
    const points = series.points();
    expect(
      points.filter(({ seconds }) => seconds < 490).every(({ value }) => Math.abs(value - 0.2) < 1e-9),
    ).toBe(true);
    expect(
      points.filter(({ seconds }) => seconds > 510).every(({ value }) => Math.abs(value - 0.8) < 1e-9),
    ).toBe(true);
  });
});
