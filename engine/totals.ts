import type { StepResult } from './device/device.js';
import type { Lane, StepPlan } from './scheduler/work.js';
import type { EngineStats } from './types.js';
import { UnitUse } from './unit-use.js';

/** What steps have done since the start. */
export class Totals {
  readonly #busySeconds: Record<Lane, number> = { prefill: 0, decode: 0 };
  readonly #unitUse = new UnitUse();
  #promptTokens = 0;
  #readTokens = 0;
  #generatedTokens = 0;
  #schedulerMs = 0;

  begin(plan: StepPlan<unknown>, nowMs: number): void {
    this.#unitUse.begin(plan, nowMs);
  }

  /** However it ended. */
  end(lane: Lane, nowMs: number): void {
    this.#unitUse.end(lane, nowMs);
  }

  /** What a step did that ended well. */
  add({ lane, chunks }: StepPlan<unknown>, { seconds }: StepResult): void {
    this.#busySeconds[lane] += seconds;
    for (const { tokens, isPrompt } of chunks) if (isPrompt) this.#readTokens += tokens;
  }

  /** A prompt has begun to be read, or is cached. */
  addPrompt(tokens: number): void {
    this.#promptTokens += tokens;
  }

  addGenerated(): void {
    this.#generatedTokens++;
  }

  /** Time that the engine itself took, planning steps and delivering their results. */
  addScheduling(ms: number): void {
    this.#schedulerMs += ms;
  }

  stats(
    nowMs: number,
  ): Pick<
    EngineStats,
    | 'promptTokens'
    | 'promptTokensRead'
    | 'generatedTokens'
    | 'laneBusySeconds'
    | 'unitSeconds'
    | 'schedulerSeconds'
  > {
    return {
      promptTokens: this.#promptTokens,
      promptTokensRead: this.#readTokens,
      generatedTokens: this.#generatedTokens,
      laneBusySeconds: { ...this.#busySeconds },
      unitSeconds: this.#unitUse.until(nowMs),
      schedulerSeconds: this.#schedulerMs / 1000,
    };
  }
}
