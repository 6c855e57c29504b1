import { describe, expect, it } from 'vitest';
import { Rows } from '../../loadtest/rows.js';
import type { LoadResult } from '../../loadtest/serve/load.js';
import { summarize } from '../../loadtest/serve/summary.js';
import { origin } from './origin.js';
import { traceOf } from './trace.js';

function summary(result: Partial<LoadResult>, slo?: Parameters<typeof summarize>[2]) {
  const rows = new Rows(origin);
  summarize(rows, { traces: [], seconds: 2, clientCpuShare: 0.25, ...result }, slo);
  return Object.fromEntries(rows.all.map(({ name, value, unit }) => [name, `${value} ${unit}`]));
}

const traces = [
  traceOf([100, 110, 130]),
  traceOf([300, 310]),
  traceOf([50], { error: '503 busy', promptTokens: 0 }),
];

describe('the summary of a load', () => {
  it('counts requests, tokens and failures over the time that was measured', () => {
    expect(summary({ traces })).toMatchObject({
      requests: '3 requests',
      'failed requests': '1 requests',
      throughput: '1 requests/s',
      'prompt tokens': '10 tok/s',
      'generated tokens': '2.5 tok/s',
      'processor time of the client': '0.25 cores',
    });
  });

  it('has the times of those that succeeded', () => {
    const rows = summary({ traces });
    expect(rows).toMatchObject({
      'TTFT mean': '200 ms',
      'TTFT max': '300 ms',
      'TBT p50': '10 ms',
      'TBT max': '20 ms',
      'E2E p50': '220 ms',
    });
    for (const name of ['TTFT', 'TBT', 'E2E']) {
      for (const part of ['mean', 'p50', 'p95', 'p99', 'max']) expect(rows).toHaveProperty(`${name} ${part}`);
    }
  });

  it('counts as goodput what met the objectives, and nothing without any', () => {
    expect(summary({ traces }, { ttft: 200 }).goodput).toBe('0.5 requests/s');
    expect(summary({ traces }, { ttft: 50 }).goodput).toBe('0 requests/s');
    expect(summary({ traces })).not.toHaveProperty('goodput');
  });

  it('has no time between tokens where each answer is one token', () => {
    expect(Object.keys(summary({ traces: [traceOf([5])] })).filter((name) => name.startsWith('TBT'))).toEqual(
      [],
    );
  });

  it("is an error with the server's words if nothing succeeded", () => {
    expect(() => summary({ traces: traces.slice(2) })).toThrow('no request succeeded: 503 busy');
    expect(() => summary({ traces: [traceOf([])] })).toThrow('none brought any text');
  });
});
