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
  /** Prompts that are read with nothing beside them, to compare with. */
  readonly turnsAlone: number;
  /** Of each of the two phases. */
  readonly phaseSeconds: number;
}

/** What was met, in milliseconds. */
export interface MixedTimes {
  /** Between tokens of the streams, with nothing beside them and beside long prompts. */
  readonly idleGaps: readonly number[];
  readonly busyGaps: readonly number[];
  /** To the first token of the long prompts, with nothing beside them and beside the streams. */
  readonly aloneTtft: readonly number[];
  readonly besideTtft: readonly number[];
  /** How long the phases took. */
  readonly idleMs: number;
  readonly busyMs: number;
}

/** Of each long prompt's answer: its first token is what is measured. */
const outputTokens = 2;

/** Tokens of a long prompt where nobody says: most of the context. */
export function defaultLongPrompt({ contextLength }: ServedModel): number {
  return Math.min(2048, Math.floor(contextLength * 0.75));
}

/** Of a stream's prompt: it is its answer that matters. */
export function shortPromptOf({ contextLength }: ServedModel): number {
  return Math.min(32, Math.ceil(contextLength / 2));
}

/** Throws an Error if the context has no room for the long prompts. */
export function checkLongPrompt({ id, contextLength }: ServedModel, longPrompt: number): void {
  const longest = contextLength - outputTokens;
  if (longPrompt > longest) {
    throw new RangeError(
      `--long-prompt ${longPrompt}: the context of ${id} leaves room for ${longest} tokens`,
    );
  }
}

/** Milliseconds to the first token of a prompt that no other begins like. Throws an Error if it fails. */
export async function readLongPrompt(
  target: Target,
  { id }: ServedModel,
  prompts: PromptSource,
  tokens: number,
): Promise<number> {
  const prompt = prompts.next(tokens);
  const { dueAt, pieceTimes, error } = await streamCompletion(target, {
    model: id,
    prompt,
    maxTokens: outputTokens,
  });
  if (error !== undefined || pieceTimes.length === 0) {
    throw new Error(`a prompt of ${tokens} tokens failed: ${error ?? 'it brought no text'}`);
  }
  return pieceTimes[0]! - dueAt;
}

/**
 * What running streams feel of long prompts: they run alone for a while, then long prompts arrive one after another, so
 * that there is always one to read. Also what the prompts feel of the streams: their TTFT against alone.
 */
export async function measureMixed(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: MixedPlan,
): Promise<MixedTimes> {
  checkLongPrompt(model, plan.longPrompt);
  const readLong = () => readLongPrompt(target, model, prompts, plan.longPrompt);

  // Compiles what runs; not counted.
  await readLong();
  const aloneTtft: number[] = [];
  for (let turn = 0; turn < plan.turnsAlone; turn += 1) aloneTtft.push(await readLong());

  const streams = await BackgroundStreams.start(
    target,
    plan.streams,
    longAnswers(model, prompts, plan.shortPrompt),
  );
  const besideTtft: number[] = [];
  const [idleFrom, busyFrom, busyTo] = await streams.during(async () => {
    const idle = performance.now();
    await sleep(plan.phaseSeconds * 1000);
    streams.check();
    const busy = performance.now();
    while (performance.now() < busy + plan.phaseSeconds * 1000) besideTtft.push(await readLong());
    return [idle, busy, performance.now()] as const;
  });
  return {
    idleGaps: streams.gapsTouching(idleFrom, busyFrom),
    busyGaps: streams.gapsTouching(busyFrom, busyTo),
    aloneTtft,
    besideTtft,
    idleMs: busyFrom - idleFrom,
    busyMs: busyTo - busyFrom,
  };
}

/** Adds the rows of what was measured. */
export function addMixed(rows: Rows, { streams, longPrompt }: MixedPlan, times: MixedTimes): void {
  const idle = distributionOf(times.idleGaps);
  addGaps(rows, `TBT of ${streams} streams`, idle);
  addGaps(rows, `TBT while prompts of ${longPrompt} tokens arrive`, distributionOf(times.busyGaps), idle);
  const name = `TTFT of a prompt of ${longPrompt} tokens`;
  const alone = median(times.aloneTtft);
  rows.add(`${name} alone, p50`, alone, 'ms');
  rows.add(`${name} beside ${streams} streams, p50`, median(times.besideTtft), 'ms', alone);
  rows.add('prompts that arrived', times.besideTtft.length, 'requests');
}
