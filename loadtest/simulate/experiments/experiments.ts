import type { Report } from '../report/report.js';
import { ablation } from './ablation.js';
import type { ExperimentOptions } from './common.js';
import { loadStep } from './load-step.js';
import { paper } from './paper.js';
import { plan } from './plan.js';

const experiments = { paper, ablation, 'load-step': loadStep, plan } as const satisfies Record<
  string,
  (options: ExperimentOptions) => Report
>;

export type ExperimentName = keyof typeof experiments;
export const experimentNames = Object.keys(experiments) as ExperimentName[];

/** Adds the experiment's figures to `options.rows`, and returns what a report shows. */
export function runExperiment(name: ExperimentName, options: ExperimentOptions): Report {
  return experiments[name](options);
}
