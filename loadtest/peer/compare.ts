import { median } from '../statistics.js';
import type { Runner } from './runner.js';
import type { Workload } from './workloads.js';

export interface Comparison {
  readonly workload: string;
  /** Medians, in tokens a second. */
  readonly ours: number;
  readonly theirs: number;
}

/**
 * Runs each workload on both sides in turns, A B A B ..., so that whatever changes on the machine meets both. A first
 * turn of each is not counted: it touches memory and wakes clocks. `onMeasured` sees every counted turn as it ends.
 */
export async function compare(
  ours: Runner,
  theirs: Runner,
  workloads: readonly Workload[],
  repetitions: number,
  onMeasured: (workload: string, repetition: number, ours: number, theirs: number) => void,
): Promise<Comparison[]> {
  const rates = workloads.map(() => ({ ours: [] as number[], theirs: [] as number[] }));
  for (let repetition = 0; repetition <= repetitions; repetition += 1) {
    for (const [index, workload] of workloads.entries()) {
      const rateOfOurs = workload.tokens / (await workload.run(ours));
      const rateOfTheirs = workload.tokens / (await workload.run(theirs));
      if (repetition === 0) continue;
      rates[index]!.ours.push(rateOfOurs);
      rates[index]!.theirs.push(rateOfTheirs);
      onMeasured(workload.name, repetition, rateOfOurs, rateOfTheirs);
    }
  }
  return workloads.map(({ name }, index) => ({
    workload: name,
    ours: median(rates[index]!.ours),
    theirs: median(rates[index]!.theirs),
  }));
}
