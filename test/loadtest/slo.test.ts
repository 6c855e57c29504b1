import { describe, expect, it } from 'vitest';
import { gapsOf, meets, parseSlo } from '../../loadtest/serve/slo.js';
import { traceOf } from './trace.js';

describe('objectives', () => {
  it('are read in milliseconds, or in the unit that stands there', () => {
    expect(parseSlo('ttft=500ms,tbt=0.1s, tpot=40,e2e=2s')).toEqual({
      ttft: 500,
      tbt: 100,
      tpot: 40,
      e2e: 2000,
    });
  });

  it.each(['', 'ttft', 'ttft=', 'ttft=-1', 'latency=5', 'ttft=5m', 'ttft=1,,tbt=2'])(
    'name what they cannot read: %j',
    (text) => {
      expect(() => parseSlo(text)).toThrow(/^"[^,]*" is no objective: expected ttft, tbt, tpot, e2e/);
    },
  );

  // First piece after 100 ms, then gaps of 10, 30 and 20.
  const trace = traceOf([100, 110, 140, 160], { endedAt: 165 });

  it('bound the first piece, the longest gap, the mean gap and the end, each from when it was due', () => {
    expect(gapsOf(trace)).toEqual([10, 30, 20]);
    const bounds = { ttft: 100, tbt: 30, tpot: 20, e2e: 165 };
    expect(meets(trace, bounds)).toBe(true);
    for (const [name, bound] of Object.entries(bounds)) {
      expect(meets(trace, { [name]: bound }), name).toBe(true);
      expect(meets(trace, { [name]: bound - 1 }), name).toBe(false);
    }
    expect(meets({ ...trace, dueAt: -1 }, { ttft: 100 })).toBe(false);
  });

  it('are met by one piece without gaps, and never by a failure or by no text', () => {
    expect(meets(traceOf([5]), { tbt: 1, tpot: 1 })).toBe(true);
    expect(meets({ ...trace, error: 'gone' }, {})).toBe(false);
    expect(meets(traceOf([]), {})).toBe(false);
  });
});
