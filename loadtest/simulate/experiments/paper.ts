import type { Bars } from '../../report/chart.js';
import { findCapacity } from '../capacity.js';
import type { Report, ReportSection } from '../report/report.js';
import type { RunSummary } from '../summary.js';
import { type Load, type Variant, variant } from '../variant.js';
import { syntheticWorkload } from '../workloads/synthetic.js';
import {
  addLatencies,
  attain,
  carriedBars,
  described,
  type ExperimentOptions,
  knowing,
  runAt,
  setupOf,
  slos,
} from './common.js';

const chunkedFcfs = variant('chunked', 'fcfs');
const chunkedSpf = variant('chunked', 'spf');
/** A step of 512 tokens is what keeps `chunked` within the time per token where none may pass it. */
const chunkedSmall = variant('chunked', 'spf', { chunkBudget: 512 }, 'chunked 512 spf');
const nexusSpf = variant('nexus', 'spf', knowing);
const rivals: readonly Variant[] = [
  chunkedFcfs,
  chunkedSpf,
  chunkedSmall,
  nexusSpf,
  variant('nexus', 'fcfs', knowing),
  variant('reactive', 'spf', knowing),
  variant('static', 'spf'),
  variant('prefill-first', 'fcfs'),
  variant('disaggregated', 'spf', {}, 'disaggregated spf, 2 devices'),
];
const labels = rivals.map(({ label }) => label);

/**
 * The setups of arXiv 2507.06608 with one GPU: the rate carried at equal objectives, and latencies at nine tenths of
 * what the better `chunked` carries. Qwen2.5-14B on two GPUs is left out: there is no model of tensor parallelism here.
 */
export function paper(options: ExperimentOptions): Report {
  const { requests, seed } = options;
  const sections: ReportSection[] = [];
  for (const model of ['qwen2.5-3b', 'llama-3.1-8b'] as const) {
    for (const mix of ['ldc', 'arxiv', 'mixed']) {
      const setup = setupOf('l20', model, seed);
      const title = `${setup.modelName}, ${mix}`;
      const load = { setup, workload: syntheticWorkload(mix), requests, seed };
      const { mean, each } = slos[model];
      const atMean = compareCapacity({ ...load, slo: mean }, title, chunkedFcfs, options);
      const atEach = compareCapacity({ ...load, slo: each }, title, chunkedSmall, options);
      const best = Math.max(atMean.carried.get(chunkedFcfs)!, atMean.carried.get(chunkedSpf)!);
      const runs = best === 0 ? [] : compareLatencies({ ...load, slo: mean }, title, best, options);
      sections.push({ title, slo: mean, runs, bars: [atMean.bars, atEach.bars] });
    }
  }
  return {
    title: "The Nexus paper's setups with one GPU",
    facts: [
      ['device', 'NVIDIA L20'],
      ['requests of a run', String(requests)],
    ],
    sections,
  };
}

/** The rate that each rival carries, against that of `base`; of nexus also against the other two of `chunked`. */
function compareCapacity(
  load: Load,
  title: string,
  base: Variant,
  { rows, onProgress }: ExperimentOptions,
): { carried: ReadonlyMap<Variant, number>; bars: Bars } {
  onProgress(`${title}: rate carried at ${described(load.slo)}`);
  const carried = new Map(rivals.map((rival) => [rival, findCapacity(load, rival, attain).rate]));
  const what = `rate carried at ${described(load.slo)}`;
  for (const [{ label }, rate] of carried) {
    rows.add(`${title}: ${label}, ${what}`, rate, 'requests/s', carried.get(base)!);
  }
  for (const other of [chunkedFcfs, chunkedSpf, chunkedSmall]) {
    if (other === base) continue;
    const name = `${title}: nexus spf against ${other.label}, ${what}`;
    rows.add(name, carried.get(nexusSpf)!, 'requests/s', carried.get(other)!);
  }
  return { carried, bars: carriedBars(labels, [...carried.values()], load.slo) };
}

/** At rates around `carried`; the rows are of nine tenths of it, against `chunked` in both orders. */
function compareLatencies(
  load: Load,
  title: string,
  carried: number,
  { rows }: ExperimentOptions,
): RunSummary[] {
  const runs: RunSummary[] = [];
  for (const part of [0.5, 0.7, 0.9, 1.1]) {
    const rate = Number((part * carried).toPrecision(3));
    const found = new Map(rivals.map((rival) => [rival, runAt(load, rival, rate)]));
    runs.push(...found.values());
    if (part !== 0.9) continue;
    const name = `${title} at ${rate}/s`;
    for (const run of found.values())
      addLatencies(rows, `${name}: ${run.label}`, run, found.get(chunkedFcfs)!);
    addLatencies(
      rows,
      `${name}: nexus spf against chunked spf`,
      found.get(nexusSpf)!,
      found.get(chunkedSpf)!,
    );
  }
  return runs;
}
