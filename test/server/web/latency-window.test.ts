import { describe, expect, it } from 'vitest';
import { LatencyBins, latencyBins } from '../../../server/live/latency-bins.js';
import { LatencyWindow } from '../../../server/web/dashboard/latency-window.js';

function counted(...values: number[]) {
  const bins = new LatencyBins();
  for (const value of values) bins.add(value);
  return bins.take();
}

describe('latencies as the dashboard counts them', () => {
  it('gives percentiles to within half a bin', () => {
    const window = new LatencyWindow(latencyBins, 10);
    const values = Array.from({ length: 1001 }, (_, i) => 1 + i * 3.7);
    window.push(counted(...values));
    for (const p of [0, 0.5, 0.95, 0.99, 1]) {
      const exact = values[Math.floor(p * 1000)]!;
      expect(window.percentile(p)! / exact).toBeGreaterThan(1 / 1.026);
      expect(window.percentile(p)! / exact).toBeLessThan(1.026);
    }
  });

  it('forgets what is older than its length', () => {
    const window = new LatencyWindow(latencyBins, 2);
    window.push(counted(1000, 1000));
    window.push(counted(10));
    window.push(counted());
    expect(window.total).toBe(1);
    expect(window.percentile(1)).toBeCloseTo(10, 0);
    window.push(counted());
    expect(window.percentile(0.5)).toBeNull();
    expect(window.bars(4)).toEqual([]);
  });

  it('keeps what lies beyond the bins, at their ends', () => {
    const window = new LatencyWindow(latencyBins, 1);
    window.push(counted(0, 1e-9, 1e12, Number.POSITIVE_INFINITY));
    expect(window.total).toBe(4);
    const bars = window.bars(4);
    expect(bars.reduce((sum, { count }) => sum + count, 0)).toBe(4);
    expect(bars[0]).toMatchObject({ count: 2 });
    expect(bars.at(-1)).toMatchObject({ count: 2 });
  });

  it('takes each latency once', () => {
    const bins = new LatencyBins();
    bins.add(5);
    expect(bins.take()).toHaveLength(2);
    expect(bins.take()).toEqual([]);
  });
});
