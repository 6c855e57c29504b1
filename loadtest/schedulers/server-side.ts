import { Random } from '../random.js';
import { failuresOf, type LoadResult, openLoop, warmUp } from '../serve/load.js';
import { type MixedPlan, measureMixed } from '../serve/mixed-scenario.js';
import { PromptSource } from '../serve/prompt-source.js';
import { type SchedulerMetrics, schedulerMetrics } from '../serve/scheduler-metrics.js';
import { ServerProcess } from '../serve/server-process.js';
import type { Slo } from '../serve/slo.js';
import { type ServedModel, servedModel, type Target } from '../serve/target.js';
import { replayOf } from '../serve/trace-replay.js';
import type { Arrival } from '../simulate/workloads/workload.js';
import type { Contender } from './contenders.js';
import { type Figures, figuresOf, mixedFigures, simulatedFigures, traceFigures } from './figures.js';
import type { Side } from './in-turns.js';

export interface ServerOptions {
  readonly model: string | undefined;
  /** Of every server that is compared. */
  readonly flags: readonly string[];
  readonly seed: number;
  /** Told what each server's scheduler counted, before it ends. */
  readonly onFacts: (facts: string) => void;
}

/** A server that runs, as it is asked for its figures. */
export interface AskedServer {
  readonly target: Target;
  readonly model: ServedModel;
  readonly prompts: PromptSource;
  /** Those that it was started with. */
  readonly flags: readonly string[];
}

export type Ask = (server: AskedServer) => Promise<Figures>;

/** All flags of a contender's server. */
export function flagsOf(contender: Contender, { flags }: Pick<ServerOptions, 'flags'>): string[] {
  return [...contender.flags, ...flags];
}

/** A server of its own for each turn, and what is asked of it. */
export function serverSide(contender: Contender, options: ServerOptions, ask: Ask): Side {
  const { model, seed, onFacts } = options;
  const flags = flagsOf(contender, options);
  return {
    name: contender.name,
    measure: async () => {
      const server = await ServerProcess.start(model, flags);
      try {
        const target = { url: server.url };
        const prompts = await PromptSource.open(target, new Random(seed));
        const figures = await ask({ target, model: await servedModel(target), prompts, flags });
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

/** One plan after another, on the same server. */
export function askMixed(plans: readonly MixedPlan[]): Ask {
  return async ({ target, model, prompts }) => {
    let figures: Figures = {};
    for (const plan of plans) {
      const found = mixedFigures(await measureMixed(target, model, prompts, plan));
      figures = { ...figures, ...(plans.length > 1 ? figuresOf(plan, found) : found) };
    }
    return figures;
  };
}

/** What the simulator makes of the requests that were sent to a server of these flags, with so many KV pages. */
export type ForeseeReplay = (
  flags: readonly string[],
  sent: readonly Arrival[],
  kvBlocks: number,
) => Promise<LoadResult>;

/** With `foresee` the figures hold what it says beside what was measured. */
export function askTrace(arrivals: readonly Arrival[], slo: Slo | undefined, foresee?: ForeseeReplay): Ask {
  return async ({ target, model, prompts, flags }) => {
    const replay = replayOf(arrivals, model, prompts);
    await warmUp(target, model, prompts);
    const result = await openLoop(target, replay.requests, replay.arrivals);
    for (const failure of failuresOf(result)) throw new Error(failure);
    const measured = traceFigures(result, slo);
    if (!foresee) return measured;
    const { kvBlocks } = await schedulerMetrics(target);
    return { ...measured, ...simulatedFigures(await foresee(flags, replay.sent, kvBlocks), slo) };
  };
}

function factsOf({ mixedSteps, prefillSteps, decodeSteps, repartitions }: SchedulerMetrics): string {
  return (
    `${prefillSteps} + ${decodeSteps} steps of the prefill and decode lane, ${mixedSteps} of them mixed, ` +
    `${repartitions} repartitions`
  );
}
