import { findCapacity } from '../capacity.js';
import type { Bars } from '../report/chart.js';
import type { Report, ReportSection } from '../report/report.js';
import { type Variant, variant } from '../variant.js';
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

const nexusSpf = variant('nexus', 'spf', knowing);
/** The two that others are compared with come first. A budget of 512 is what keeps `chunked` within the time per token. */
const rivals: readonly Variant[] = [
  variant('chunked', 'fcfs'),
  variant('chunked', 'spf'),
  variant('chunked', 'spf', { chunkBudget: 512 }, 'chunked 512 spf'),
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
export function paper({ requests, seed, rows, onProgress }: ExperimentOptions): Report {
  const sections: ReportSection[] = [];
  for (const model of ['qwen2.5-3b', 'llama-3.1-8b'] as const) {
    for (const mix of ['ldc', 'arxiv', 'mixed']) {
      const common = { setup: setupOf('l20', model, seed), workload: syntheticWorkload(mix), requests, seed };
      const name = `${common.setup.model.name}, ${mix}`;
      const bars: Bars[] = [];
      let best = 0;
      for (const [kind, slo] of Object.entries(slos[model])) {
        onProgress(`${name}: rate carried at ${described(slo)}`);
        const carried = rivals.map((rival) => findCapacity({ ...common, slo }, rival, attain).rate);
        const [fcfs, spf] = carried as [number, number];
        for (const [index, { label }] of rivals.entries()) {
          rows.add(
            `${name}: ${label}, rate carried at ${described(slo)}`,
            carried[index]!,
            'requests/s',
            fcfs,
          );
        }
        rows.add(
          `${name}: nexus spf against chunked spf, rate carried at ${described(slo)}`,
          carried[rivals.indexOf(nexusSpf)]!,
          'requests/s',
          spf,
        );
        if (kind === 'mean') best = Math.max(fcfs, spf);
        bars.push(carriedBars(labels, carried, slo));
      }
      const slo = slos[model].mean;
      const rates =
        best === 0 ? [] : [0.5, 0.7, 0.9, 1.1].map((part) => Number((part * best).toPrecision(3)));
      const runs = rates.flatMap((rate) => rivals.map((rival) => runAt({ ...common, slo }, rival, rate)));
      const compared = runs.filter(({ rate }) => rate === rates[2]);
      for (const run of compared)
        addLatencies(rows, `${name} at ${run.rate}/s: ${run.label}`, run, compared[0]!);
      const nexus = compared[rivals.indexOf(nexusSpf)];
      if (nexus)
        addLatencies(rows, `${name} at ${nexus.rate}/s: nexus spf against chunked spf`, nexus, compared[1]!);
      sections.push({ title: name, slo, runs, bars });
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
