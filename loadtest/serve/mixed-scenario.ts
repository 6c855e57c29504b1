import { setTimeout as sleep } from 'node:timers/promises';
import type { Rows } from '../rows.js';
import { distributionOf, median } from '../statistics.js';
import { BackgroundStreams } from './background-streams.js';
import { streamCompletion } from './completion-stream.js';
import { longAnswers } from './long-answers.js';
import type { PromptSource } from './prompt-source.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface MixedPlan {
  readonly streams: number;
  /** Prompts of the running streams, and of those that arrive, in tokens. */
  readonly shortPrompt: number;
  readonly longPrompt: number;
  /** Of each of the two phases. */
  readonly phaseSeconds: number;
}

/** Of each long prompt's answer: its first token is what is measured. */
const outputTokens = 2;

/** Prompts that are read with nothing beside them, to compare with. */
const turnsAlone = 5;

/**
 * What running streams feel of long prompts: they run alone for a while, then long prompts arrive one after another, so
 * that there is always one to read. Also what the prompts feel of the streams: their TTFT against alone.
 */
export async function runMixed(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: MixedPlan,
  rows: Rows,
): Promise<void> {
  const longest = model.contextLength - outputTokens;
  if (plan.longPrompt > longest) {
    throw new RangeError(
      `--long-prompt ${plan.longPrompt}: the context of ${model.id} leaves room for ${longest} tokens`,
    );
  }
  const readLong = async () => {
    const prompt = prompts.next(plan.longPrompt);
    const { dueAt, pieceTimes, error } = await streamCompletion(target, {
      model: model.id,
      prompt,
      maxTokens: outputTokens,
    });
    if (error !== undefined || pieceTimes.length === 0) {
      throw new Error(`a prompt of ${plan.longPrompt} tokens failed: ${error ?? 'it brought no text'}`);
    }
    return pieceTimes[0]! - dueAt;
  };

  // Compiles what runs; not counted.
  await readLong();
  const alone: number[] = [];
  for (let turn = 0; turn < turnsAlone; turn += 1) alone.push(await readLong());

  const streams = await BackgroundStreams.start(
    target,
    plan.streams,
    longAnswers(model, prompts, plan.shortPrompt),
  );
  try {
    const idleFrom = performance.now();
    await sleep(plan.phaseSeconds * 1000);
    const busyFrom = performance.now();
    const idle = distributionOf(streams.gapsTouching(idleFrom, busyFrom));
    const together: number[] = [];
    while (performance.now() < busyFrom + plan.phaseSeconds * 1000) together.push(await readLong());
    addGaps(rows, `TBT of ${plan.streams} streams`, idle);
    const busy = distributionOf(streams.gapsTouching(busyFrom, performance.now()));
    addGaps(rows, `TBT while prompts of ${plan.longPrompt} tokens arrive`, busy, idle);
    const name = `TTFT of a prompt of ${plan.longPrompt} tokens`;
    rows.add(`${name} alone, p50`, median(alone), 'ms');
    rows.add(`${name} beside ${plan.streams} streams, p50`, median(together), 'ms', median(alone));
    rows.add('prompts that arrived', together.length, 'requests');
  } finally {
    await streams.stop();
  }
}
