import { findCapacity } from '../capacity.js';
import type { Report } from '../report/report.js';
import { variant } from '../variant.js';
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

/** What each part of nexus is worth: without it, all else equal. */
export function ablation({ requests, seed, rows, onProgress }: ExperimentOptions): Report {
  const variants = [
    variant('nexus', 'spf', knowing, 'nexus'),
    variant('nexus', 'spf', { ...knowing, contention: false }, 'nexus without the contention term'),
    variant('nexus', 'spf', { ...knowing, correction: false }, 'nexus without online correction'),
    variant('nexus', 'fcfs', knowing, 'nexus without shortest prompt first'),
    variant('nexus', 'spf', { ...knowing, hysteresis: 0 }, 'nexus without hysteresis'),
    variant('nexus', 'spf', {}, 'nexus by its slacks, not told the objectives'),
    variant('reactive', 'spf', knowing, 'reactive instead of proactive'),
    variant('static', 'spf', {}, 'a fixed split, one half'),
  ];
  const labels = variants.map(({ label }) => label);
  const model = 'llama-3.1-8b';
  const slo = slos[model].mean;
  const load = {
    setup: setupOf('l20', model, seed),
    slo,
    workload: syntheticWorkload('mixed'),
    requests,
    seed,
  };
  onProgress(`${load.setup.modelName}, mixed: ${described(slo)}`);
  const carried = variants.map((each) => findCapacity(load, each, attain).rate);
  for (const [index, label] of labels.entries()) {
    rows.add(`${label}, rate carried`, carried[index]!, 'requests/s', carried[0]!);
  }
  // Of what nexus carries; where it carries nothing, of what the best does.
  const rate = Number((0.9 * (carried[0]! || Math.max(...carried))).toPrecision(3));
  const runs = variants.map((each) => runAt(load, each, rate));
  for (const run of runs) {
    const name = `${run.label} at ${rate}/s`;
    addLatencies(rows, name, run, runs[0]!);
    rows.add(`${name}, changes of the split`, run.repartitions, 'changes', runs[0]!.repartitions);
  }
  return {
    title: 'What each part of nexus is worth',
    facts: [
      ['model', 'Llama-3.1-8B on NVIDIA L20'],
      ['workload', 'mixed'],
      ['objectives', described(slo)],
    ],
    sections: [{ title: `Mixed at ${rate}/s`, slo, runs, bars: [carriedBars(labels, carried, slo)] }],
  };
}
