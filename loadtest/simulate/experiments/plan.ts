import { findCapacity } from '../capacity.js';
import { kvPolicyNames } from '../kv-policies.js';
import type { Report, ReportSection } from '../report/report.js';
import { variant } from '../variant.js';
import { syntheticWorkload } from '../workloads/synthetic.js';
import { attain, carriedBars, described, type ExperimentOptions, knowing, setupOf } from './common.js';

/** Tighter than elsewhere: what a chat's reader expects. */
const slo = { ttft: 2000, tpot: 50 } as const;

/** The rate that one device carries, for each kind of device and of KV cache. */
export function plan({ requests, seed, rows, onProgress }: ExperimentOptions): Report {
  const sections: ReportSection[] = [];
  for (const gpu of ['l20', 'a100', 'h200'] as const) {
    const labels: string[] = [];
    const carried: number[] = [];
    const colors: number[] = [];
    for (const kv of kvPolicyNames) {
      const setup = setupOf(gpu, 'llama-3.1-8b', seed, kv);
      const load = { setup, slo, workload: syntheticWorkload('sharegpt'), requests, seed };
      onProgress(`${setup.deviceName}, KV ${kv}: ${described(slo)}`);
      for (const [color, policy] of (['nexus', 'chunked'] as const).entries()) {
        const label = `${policy} spf, KV ${kv}`;
        const { rate } = findCapacity(load, variant(policy, 'spf', knowing), attain);
        rows.add(`${setup.deviceName}: ${label}, rate carried`, rate, 'requests/s');
        labels.push(label);
        carried.push(rate);
        colors.push(color);
      }
    }
    const { deviceName } = setupOf(gpu, 'llama-3.1-8b', seed);
    sections.push({ title: deviceName, slo, runs: [], bars: [carriedBars(labels, carried, slo, colors)] });
  }
  return {
    title: 'What one device carries',
    facts: [
      ['model', 'Llama-3.1-8B'],
      ['workload', 'sharegpt'],
      ['objectives', described(slo)],
    ],
    sections,
  };
}
