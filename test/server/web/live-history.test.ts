import { describe, expect, it } from 'vitest';
import { latencyBins } from '../../../server/live/latency-bins.js';
import type { SampleFrame } from '../../../server/live/live-protocol.js';
import { LiveHistory } from '../../../server/web/dashboard/live-history.js';
import { idleStats } from '../../support/idle-stats.js';

interface Totals {
  generated?: number;
  read?: number;
  prefill?: number;
  decode?: number;
  hits?: number;
  queried?: number;
}

function sample(atMs: number, totals: Totals | undefined): SampleFrame {
  const base = { type: 'sample', atMs, status: 'ready', ttft: [], tbt: [], running: [], ended: [] } as const;
  const connections = { http: 0, webSockets: 1 };
  if (!totals) return { ...base, connections };
  const { generated = 0, read = 0, prefill = 0, decode = 0, hits = 0, queried = 0 } = totals;
  const stats = {
    ...idleStats,
    running: 3,
    waiting: 1,
    slotsOpen: 3,
    kvBlocksTotal: 10,
    kvBlocksUsed: 2,
    kvBlockBytes: 100,
    kvHeldBytes: { ...idleStats.kvHeldBytes, bf16: 100, far: 7 },
    cache: { ...idleStats.cache, hitTokens: hits, queriedTokens: queried },
    promptTokensRead: read,
    generatedTokens: generated,
    laneUnits: { prefill: 1, decode: 1 },
    unitSeconds: { prefill, decode, mixed: 0 },
  };
  const scheduler = {
    policy: 'nexus',
    prefillOrder: 'spf',
    constants: 'a test',
    units: 2,
    share: { prefill: 1, decode: 1 },
    running: 3,
    waiting: 1,
  };
  return { ...base, connections, engine: { stats, scheduler } };
}

const history = (capacity = 100) => new LiveHistory(latencyBins, capacity, 4);

describe('the history that the dashboard draws', () => {
  it('makes rates of totals, by the clock of the server', () => {
    const shown = history();
    shown.push(sample(1000, { generated: 10, read: 100, prefill: 1, decode: 2 }), 5);
    expect(shown.last('written')).toBeNull();
    // Half a second of the server's, though the frame came two seconds later.
    shown.push(
      sample(1500, { generated: 60, read: 300, prefill: 1.5, decode: 2.25, hits: 30, queried: 40 }),
      7,
    );
    expect(shown.last('written')).toBe(100);
    expect(shown.last('kvFar')).toBe(7);
    expect(shown.last('read')).toBe(400);
    expect(shown.last('prefillUnits')).toBe(1);
    expect(shown.last('decodeUnits')).toBe(0.5);
    expect(shown.last('hitShare')).toBe(0.75);
    expect(shown.times).toEqual([5, 7]);
  });

  it('leaves a gap where the server was away, and makes no rate across it', () => {
    const shown = history();
    shown.push(sample(1000, { generated: 500 }), 1);
    shown.push(sample(1500, { generated: 600 }), 2);
    shown.interrupt(10);
    shown.push(sample(200, { generated: 0 }), 11);
    shown.push(sample(700, { generated: 5 }), 12);
    expect(shown.column('written')).toEqual([null, 200, null, null, 10]);
    expect(shown.column('running')).toEqual([3, 3, null, 3, 3]);
  });

  it('makes no rate of an engine that counts from 0 again, or that does not answer', () => {
    const shown = history();
    shown.push(sample(1000, { generated: 500 }), 1);
    shown.push(sample(1500, undefined), 2);
    shown.push(sample(2000, { generated: 3 }), 3);
    shown.push(sample(2500, { generated: 1 }), 4);
    expect(shown.column('written')).toEqual([null, null, null, null]);
  });

  it('is as long as its capacity, however long it runs', () => {
    const shown = history(5);
    for (let i = 0; i < 50; i++) shown.push(sample(i * 500, { generated: i }), i);
    expect(shown.times).toEqual([45, 46, 47, 48, 49]);
    expect(shown.column('written')).toEqual([2, 2, 2, 2, 2]);
  });
});
