import type { Report } from '../report/report.js';
import type { RunSummary } from '../summary.js';
import { variant } from '../variant.js';
import { loadStepWorkload } from '../workloads/synthetic.js';
import { addLatencies, described, type ExperimentOptions, knowing, runAt, setupOf, slos } from './common.js';

const rate = 0.9;
const thirds = ['first', 'second', 'last'] as const;

/** Chat, then long prompts among it, then chat: how fast and how often the split follows. */
export function loadStep({ requests, seed, rows, onProgress }: ExperimentOptions): Report {
  const model = 'llama-3.1-8b';
  const slo = slos[model].mean;
  const load = { setup: setupOf('l20', model, seed), slo, workload: loadStepWorkload(), requests, seed };
  onProgress(`${load.setup.modelName}, chat, long prompts, chat at ${rate}/s: ${described(slo)}`);
  const runs = [
    variant('chunked', 'spf'),
    variant('nexus', 'spf', knowing),
    variant('nexus', 'spf', { ...knowing, hysteresis: 0 }, 'nexus spf without hysteresis'),
    variant('reactive', 'spf', knowing),
    variant('static', 'spf'),
  ].map((each) => runAt(load, each, rate));
  for (const run of runs) {
    addLatencies(rows, run.label, run, runs[0]!);
    rows.add(`${run.label}, objectives met`, run.attained, 'of 1', runs[0]!.attained);
    rows.add(`${run.label}, changes of the split`, run.repartitions, 'changes');
    for (const [part, name] of thirds.entries()) {
      const share = meanSplit(run, (part * requests) / rate / 3, ((part + 1) * requests) / rate / 3);
      if (share !== null) rows.add(`${run.label}, prompts' part of the units, ${name} third`, share, 'of 1');
    }
  }
  return {
    title: 'Chat, long prompts, chat',
    facts: [
      ['model', 'Llama-3.1-8B on NVIDIA L20'],
      ['objectives', described(slo)],
    ],
    sections: [{ title: `All at ${rate}/s`, slo, runs, bars: [] }],
  };
}

/** While both phases ran; null if they never did. */
function meanSplit({ split }: RunSummary, from: number, to: number): number | null {
  const inside = split.filter(({ seconds }) => seconds >= from && seconds < to);
  if (inside.length === 0) return null;
  return inside.reduce((sum, { value }) => sum + value, 0) / inside.length;
}
