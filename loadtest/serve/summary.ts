import type { Rows } from '../rows.js';
import { type Distribution, distributionOf } from '../statistics.js';
import type { LoadResult } from './load.js';
import { gapsOf, meets, type Slo, ttftOf } from './slo.js';

/** Adds the rows of a load. Throws an Error with a server's answer if no request succeeded. */
export function summarize(rows: Rows, { traces, seconds, clientCpuShare }: LoadResult, slo?: Slo): void {
  const whole = traces.filter(({ error, pieceTimes }) => error === undefined && pieceTimes.length > 0);
  if (whole.length === 0) {
    throw new Error(`no request succeeded: ${traces[0]?.error ?? 'none brought any text'}`);
  }
  const sum = (count: (trace: (typeof whole)[number]) => number) =>
    whole.reduce((total, trace) => total + count(trace), 0);
  rows.add('requests', traces.length, 'requests');
  rows.add('failed requests', traces.length - whole.length, 'requests');
  rows.add('throughput', whole.length / seconds, 'requests/s');
  if (slo) rows.add('goodput', traces.filter((trace) => meets(trace, slo)).length / seconds, 'requests/s');
  rows.add('prompt tokens', sum(({ promptTokens }) => promptTokens) / seconds, 'tok/s');
  rows.add('generated tokens', sum(({ completionTokens }) => completionTokens) / seconds, 'tok/s');
  const ttft = whole.flatMap(ttftOf);
  const e2e = whole.map(({ dueAt, endedAt }) => endedAt - dueAt);
  addDistribution(rows, 'TTFT', distributionOf(ttft));
  const gaps = whole.flatMap(gapsOf);
  // Answers of one token have none.
  if (gaps.length > 0) addDistribution(rows, 'TBT', distributionOf(gaps));
  addDistribution(rows, 'E2E', distributionOf(e2e));
  rows.add('processor time of the client', clientCpuShare, 'cores');
}

function addDistribution(rows: Rows, name: string, { mean, p50, p95, p99, max }: Distribution): void {
  for (const [part, value] of Object.entries({ mean, p50, p95, p99, max })) {
    rows.add(`${name} ${part}`, value, 'ms');
  }
}
