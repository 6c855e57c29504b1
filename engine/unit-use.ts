import type { Chunk, Lane, StepPlan } from './scheduler/work.js';

/** What a step does: reads prompts, extends streams, or both. */
export type Phase = Lane | 'mixed';

interface Running {
  readonly phase: Phase;
  readonly units: number;
  readonly beginMs: number;
}

/**
 * What the compute units did over time, in unit-seconds. A step in flight counts up to now, so that the difference of two
 * looks is what happened between them, however long steps take.
 */
export class UnitUse {
  readonly #done: Record<Phase, number> = { prefill: 0, decode: 0, mixed: 0 };
  readonly #running = new Map<Lane, Running>();

  begin({ lane, units, chunks }: StepPlan<unknown>, nowMs: number): void {
    this.#running.set(lane, { phase: phaseOf(chunks), units, beginMs: nowMs });
  }

  end(lane: Lane, nowMs: number): void {
    const step = this.#running.get(lane);
    if (!step) return;
    this.#done[step.phase] += unitSeconds(step, nowMs);
    this.#running.delete(lane);
  }

  until(nowMs: number): Record<Phase, number> {
    const all = { ...this.#done };
    for (const step of this.#running.values()) all[step.phase] += unitSeconds(step, nowMs);
    return all;
  }
}

function unitSeconds({ units, beginMs }: Running, nowMs: number): number {
  return (units * (nowMs - beginMs)) / 1000;
}

function phaseOf(chunks: readonly Chunk<unknown>[]): Phase {
  const readsPrompts = chunks.some(({ isPrompt }) => isPrompt);
  if (!readsPrompts) return 'decode';
  return chunks.every(({ isPrompt }) => isPrompt) ? 'prefill' : 'mixed';
}
