import type { Rows } from '../rows.js';
import type { Histogram } from './histogram.js';
import type { RunResult } from './run.js';

/** Milliseconds. */
export interface Latency {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** One run in numbers: what a table or a picture needs, and no more. */
export interface RunSummary {
  readonly label: string;
  readonly rate: number;
  /** Requests a second that came: a drawn load, or a part of a trace, is never quite at the rate that was asked for. */
  readonly offered: number;
  readonly requests: number;
  readonly refused: number;
  /** Requests a second. */
  readonly throughput: number;
  readonly goodput: number;
  /** Part of the requests that met their objectives. */
  readonly attained: number;
  readonly promptTokensPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly ttft: Latency;
  readonly tbt: Latency;
  readonly tpot: Latency;
  readonly e2e: Latency;
  /** Part of the units' time that steps had them, over all devices. */
  readonly unitShare: number;
  /** Part of the memory's bandwidth that was drawn. */
  readonly bandwidthShare: number;
  readonly repartitions: number;
  readonly preemptions: number;
  readonly swaps: number;
  /** Part of the prompts' tokens that the prefix cache had. */
  readonly cacheHits: number;
  /** Largest part of the KV memory in use. */
  readonly kvPeak: number;
  readonly devices: number;
  readonly ttftCdf: readonly { readonly value: number; readonly share: number }[];
  readonly split: readonly { readonly seconds: number; readonly value: number }[];
}

export function summarize(result: RunResult, label: string): RunSummary {
  const { options, measures, nodes, seconds } = result;
  const { units, bandwidth } = options.setup;
  const totals = nodes.map(({ device }) => device.totals());
  const counts = nodes.map(({ scheduler }) => scheduler.counts);
  const sum = <T>(items: readonly T[], value: (item: T) => number) =>
    items.reduce((total, item) => total + value(item), 0);
  const queried = sum(nodes, ({ memory }) => memory.cache.queriedTokens);
  return {
    label,
    rate: options.rate,
    offered: measures.lastArrivalMs > 0 ? measures.arrived / (measures.lastArrivalMs / 1000) : options.rate,
    requests: measures.arrived,
    refused: measures.refused,
    throughput: measures.finished / seconds,
    goodput: measures.attained / seconds,
    attained: measures.attained / measures.arrived,
    promptTokensPerSecond: measures.promptTokens / seconds,
    outputTokensPerSecond: measures.outputTokens / seconds,
    ttft: latency(measures.ttft),
    tbt: latency(measures.tbt),
    tpot: latency(measures.tpot),
    e2e: latency(measures.e2e),
    unitShare: sum(totals, ({ unitSeconds }) => unitSeconds) / (units * seconds * nodes.length),
    bandwidthShare: sum(totals, ({ bytesRead }) => bytesRead) / (bandwidth * seconds * nodes.length),
    repartitions: sum(totals, ({ repartitions }) => repartitions),
    preemptions: sum(counts, ({ preemptions }) => preemptions),
    swaps: sum(counts, ({ swapsOut }) => swapsOut),
    cacheHits: queried === 0 ? 0 : sum(nodes, ({ memory }) => memory.cache.hitTokens) / queried,
    kvPeak: Math.max(...nodes.map(({ memory }) => memory.mostUsedPages / memory.totalPages)),
    devices: nodes.length,
    ttftCdf: measures.ttft.cumulative(),
    split: nodes[0]!.split.points(),
  };
}

function latency(histogram: Histogram): Latency {
  return {
    mean: histogram.mean,
    p50: histogram.percentile(0.5),
    p95: histogram.percentile(0.95),
    p99: histogram.percentile(0.99),
    max: histogram.max,
  };
}

/** All of a run's figures. Where no request had a second token there is no time between tokens. */
export function addRows(rows: Rows, run: RunSummary, prefix = ''): void {
  const name = (what: string) => `${prefix}${run.label} at ${run.rate}/s, ${what}`;
  rows.add(name('throughput'), run.throughput, 'requests/s');
  rows.add(name('goodput'), run.goodput, 'requests/s');
  rows.add(name('attained'), run.attained, 'of 1');
  rows.add(name('refused'), run.refused, 'requests');
  rows.add(name('prompt tokens'), run.promptTokensPerSecond, 'tok/s');
  rows.add(name('generated tokens'), run.outputTokensPerSecond, 'tok/s');
  for (const [what, values] of Object.entries({
    TTFT: run.ttft,
    TBT: run.tbt,
    TPOT: run.tpot,
    E2E: run.e2e,
  })) {
    if (Number.isNaN(values.mean)) continue;
    for (const [part, value] of Object.entries(values)) rows.add(name(`${what} ${part}`), value, 'ms');
  }
  rows.add(name('units in use'), run.unitShare, 'of 1');
  rows.add(name('bandwidth in use'), run.bandwidthShare, 'of 1');
  rows.add(name('KV memory, most in use'), run.kvPeak, 'of 1');
  rows.add(name('prefix cache hits'), run.cacheHits, 'of 1');
  rows.add(name('changes of the split'), run.repartitions, 'changes');
  rows.add(name('preemptions'), run.preemptions, 'preemptions');
  rows.add(name('swaps to the host'), run.swaps, 'swaps');
}
