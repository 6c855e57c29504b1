import { Random } from '../random.js';
import { failuresOf, openLoop, warmUp } from '../serve/load.js';
import { type MixedPlan, measureMixed } from '../serve/mixed-scenario.js';
import { PromptSource } from '../serve/prompt-source.js';
import { type SchedulerMetrics, schedulerMetrics } from '../serve/scheduler-metrics.js';
import { ServerProcess } from '../serve/server-process.js';
import type { Slo } from '../serve/slo.js';
import { type ServedModel, servedModel, type Target } from '../serve/target.js';
import { replayOf } from '../serve/trace-replay.js';
import type { Arrival } from '../simulate/workloads/workload.js';
import type { Contender } from './contenders.js';
import { type Figures, mixedFigures, traceFigures } from './figures.js';
import type { Side } from './in-turns.js';

export interface ServerOptions {
  readonly model: string | undefined;
  /** Of every server that is compared. */
  readonly flags: readonly string[];
  readonly seed: number;
  /** Told what each server's scheduler counted, before it ends. */
  readonly onFacts: (facts: string) => void;
}

/** A server of its own for each turn, and what is asked of it. */
export function serverSide(
  contender: Contender,
  options: ServerOptions,
  ask: (target: Target, model: ServedModel, prompts: PromptSource) => Promise<Figures>,
): Side {
  const { model, flags, seed, onFacts } = options;
  return {
    name: contender.name,
    measure: async () => {
      const server = await ServerProcess.start(model, [...contender.flags, ...flags]);
      try {
        const target = { url: server.url };
        const prompts = await PromptSource.open(target, new Random(seed));
        const figures = await ask(target, await servedModel(target), prompts);
        const metrics = await schedulerMetrics(target);
        onFacts(factsOf(metrics));
        const { prefillError, decodeError } = metrics;
        if (prefillError === undefined || decodeError === undefined) return figures;
        return { ...figures, prefillError, decodeError };
      } finally {
        await server.stop();
      }
    },
  };
}

export function askMixed(plan: MixedPlan) {
  return async (target: Target, model: ServedModel, prompts: PromptSource): Promise<Figures> =>
    mixedFigures(await measureMixed(target, model, prompts, plan));
}

export function askTrace(arrivals: readonly Arrival[], slo: Slo | undefined) {
  return async (target: Target, model: ServedModel, prompts: PromptSource): Promise<Figures> => {
    const replay = replayOf(arrivals, model, prompts);
    await warmUp(target, model, prompts);
    const result = await openLoop(target, replay.requests, replay.arrivals);
    for (const failure of failuresOf(result)) throw new Error(failure);
    return traceFigures(result, slo);
  };
}

function factsOf({ mixedSteps, prefillSteps, decodeSteps, repartitions }: SchedulerMetrics): string {
  return (
    `${prefillSteps} + ${decodeSteps} steps of the prefill and decode lane, ${mixedSteps} of them mixed, ` +
    `${repartitions} repartitions`
  );
}
