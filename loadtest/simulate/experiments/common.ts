import type { GpuName, SimulatedModelName } from '../../../engine/index.js';
import type { Bars } from '../../report/chart.js';
import type { Rows } from '../../rows.js';
import type { Slo } from '../../serve/slo.js';
import type { KvPolicyName } from '../kv-policies.js';
import { simulate } from '../run.js';
import { makeSetup, type Setup } from '../setup.js';
import { type RunSummary, summarize } from '../summary.js';
import type { Load, Variant } from '../variant.js';

export interface ExperimentOptions {
  readonly requests: number;
  readonly seed: number;
  readonly rows: Rows;
  readonly onProgress: (line: string) => void;
}

/**
 * Objectives that leave a long prompt about five times what it takes alone. `mean` bounds a request's mean time between
 * its tokens, which a long stall hides in; `each` bounds every one of them.
 */
export const slos = {
  'qwen2.5-3b': { mean: { ttft: 2500, tpot: 50 }, each: { ttft: 2500, tbt: 100 } },
  'llama-3.1-8b': { mean: { ttft: 5000, tpot: 100 }, each: { ttft: 5000, tbt: 200 } },
} as const satisfies Partial<Record<SimulatedModelName, Record<'mean' | 'each', Slo>>>;

/** Part of the requests that must meet them for a rate to count as carried. */
export const attain = 0.9;

/** Whoever moves the split is told the objectives. */
export const knowing = { knowsSlo: true } as const;

export function setupOf(
  gpu: GpuName,
  model: SimulatedModelName,
  seed: number,
  kv: KvPolicyName = 'bf16',
): Setup {
  return makeSetup({ gpu, model, kv, seed, slots: 1024, maxStepTokens: 8192, hostBytes: 64e9 });
}

export function runAt(load: Load, { label, ...options }: Variant, rate: number): RunSummary {
  return summarize(simulate({ ...load, ...options, rate }), label);
}

export function described(slo: Slo): string {
  return Object.entries(slo)
    .map(([what, ms]) => `${what.toUpperCase()} ${ms} ms`)
    .join(', ');
}

/** `colors`: of each label; its place in the list if absent. */
export function carriedBars(
  labels: readonly string[],
  carried: readonly number[],
  slo: Slo,
  colors: readonly number[] = [...labels.keys()],
): Bars {
  return {
    title: 'Rate carried, requests per second',
    about: `nine tenths of the requests within ${described(slo)}`,
    bars: labels.map((name, index) => ({ name, value: carried[index]!, color: colors[index]! })),
  };
}

export function addLatencies(rows: Rows, name: string, run: RunSummary, base: RunSummary): void {
  rows.add(`${name}, TTFT mean`, run.ttft.mean, 'ms', base.ttft.mean);
  rows.add(`${name}, TTFT p95`, run.ttft.p95, 'ms', base.ttft.p95);
  rows.add(`${name}, TBT mean`, run.tbt.mean, 'ms', base.tbt.mean);
  rows.add(`${name}, TBT p95`, run.tbt.p95, 'ms', base.tbt.p95);
}
