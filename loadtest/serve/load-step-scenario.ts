import { setTimeout as sleep } from 'node:timers/promises';
import type { Rows } from '../rows.js';
import { distributionOf, median } from '../statistics.js';
import { BackgroundStreams } from './background-streams.js';
import { longAnswers } from './long-answers.js';
import { checkLongPrompt, readLongPrompt } from './mixed-scenario.js';
import type { PromptSource } from './prompt-source.js';
import { type SchedulerMetrics, schedulerMetrics } from './scheduler-metrics.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface LoadStepPlan {
  readonly streams: number;
  /** Tokens of the streams' prompts and of a chat's, and of a long prompt. */
  readonly shortPrompt: number;
  readonly longPrompt: number;
  readonly phaseSeconds: number;
}

/** From chat to long prompts and back, twice: what the scheduler learned in one must not hurt in the next. */
const phases = ['chat', 'long prompts', 'chat', 'long prompts', 'chat'] as const;

/** Between two looks at how the device is shared, and between two chats. */
const pollMs = 100;
const chatPauseMs = 250;

/**
 * Running streams beside a load that changes from short prompts to long ones and back, and how the split follows. A split
 * that is changed once when a prompt comes and once when it has been read is changed twice a prompt; many more changes
 * are an oscillation.
 */
export async function runLoadStep(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: LoadStepPlan,
  rows: Rows,
): Promise<void> {
  checkLongPrompt(model, plan.longPrompt);
  const read = (tokens: number) => readLongPrompt(target, model, prompts, tokens);
  // Compiles what runs; not counted.
  await read(plan.longPrompt);
  await read(plan.shortPrompt);
  const streams = await BackgroundStreams.start(
    target,
    plan.streams,
    longAnswers(model, prompts, plan.shortPrompt),
  );
  const measured = await streams.during(async () => {
    const seen = [];
    for (const phase of phases) {
      const tokens = phase === 'chat' ? plan.shortPrompt : plan.longPrompt;
      const before = await schedulerMetrics(target);
      const watch = new UnitsWatch(target);
      const begin = performance.now();
      const ttft: number[] = [];
      while (performance.now() < begin + plan.phaseSeconds * 1000) {
        ttft.push(await read(tokens));
        if (phase === 'chat') await sleep(chatPauseMs);
      }
      const end = performance.now();
      const looks = await watch.stop();
      const change = changeOf(before, await schedulerMetrics(target));
      streams.check();
      seen.push({ phase, tokens, ttft, begin, end, looks, change });
    }
    return seen;
  });
  const firstOf = new Map<string, ReturnType<typeof distributionOf>>();
  for (const [index, { phase, tokens, ttft, begin, end, looks, change }] of measured.entries()) {
    const gaps = distributionOf(streams.gapsTouching(begin, end));
    const name = `phase ${index + 1}, ${phase}`;
    rows.add(`${name}: prompts of ${tokens} tokens`, ttft.length, 'requests');
    rows.add(`${name}: TTFT p50`, median(ttft), 'ms');
    addGaps(rows, `${name}: TBT`, gaps, firstOf.get(phase));
    rows.add(`${name}: repartitions`, change.repartitions, 'changes');
    rows.add(`${name}: repartitions a prompt`, change.repartitions / ttft.length, 'changes');
    rows.add(`${name}: mixed steps`, change.mixedSteps, 'steps', change.steps);
    rows.add(`${name}: looks that found units with prompts`, looks.split, 'looks', looks.all);
    if (!firstOf.has(phase)) firstOf.set(phase, gaps);
  }
}

function changeOf(from: SchedulerMetrics, to: SchedulerMetrics) {
  return {
    steps: to.prefillSteps + to.decodeSteps - from.prefillSteps - from.decodeSteps,
    mixedSteps: to.mixedSteps - from.mixedSteps,
    repartitions: to.repartitions - from.repartitions,
  };
}

/** Looks at the units of the lanes every now and then, until it is stopped. */
class UnitsWatch {
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #all = 0;
  #split = 0;

  constructor(private readonly target: Target) {
    this.#done = this.#run();
    // Whoever stops it hears of a failure; until then it is nobody's.
    this.#done.catch(() => {});
  }

  async stop(): Promise<{ all: number; split: number }> {
    this.#abort.abort();
    await this.#done;
    return { all: this.#all, split: this.#split };
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const { prefillUnits } = await schedulerMetrics(this.target);
      this.#all += 1;
      if (prefillUnits > 0) this.#split += 1;
      await sleep(pollMs, undefined, { signal }).catch(() => {});
    }
  }
}
