import type { Rows } from '../rows.js';
import { distributionOf } from '../statistics.js';
import type { Trace } from './completion-stream.js';
import { gapsOf, ttftOf } from './slo.js';
import { addGaps } from './stream-rows.js';

/** What the decode lane had done by some time. */
export interface DecodeSteps {
  readonly seconds: number;
  readonly steps: number;
}

/** The times of one kind of answers: of the decode steps while they ran, between tokens, and to the first one. */
export class AnswerTimes {
  #seconds = 0;
  #steps = 0;
  readonly #gaps: number[] = [];
  readonly #firstTokens: number[] = [];

  add(traces: readonly Trace[], before: DecodeSteps, after: DecodeSteps): void {
    this.#seconds += after.seconds - before.seconds;
    this.#steps += after.steps - before.steps;
    for (const trace of traces) {
      this.#gaps.push(...gapsOf(trace));
      this.#firstTokens.push(...ttftOf(trace));
    }
  }

  /** Each of them against the same of `baseline`. */
  addTo(rows: Rows, name: string, baseline: AnswerTimes): void {
    rows.add(`decode step, ${name}`, this.#stepMs, 'ms', baseline.#stepMs);
    const [gaps, gapsBefore] = [distributionOf(this.#gaps), distributionOf(baseline.#gaps)];
    rows.add(`TBT, ${name}, mean`, gaps.mean, 'ms', gapsBefore.mean);
    addGaps(rows, `TBT, ${name}`, gaps, gapsBefore);
    const [firstTokens, firstBefore] = [
      distributionOf(this.#firstTokens),
      distributionOf(baseline.#firstTokens),
    ];
    addGaps(rows, `TTFT, ${name}`, firstTokens, firstBefore);
  }

  get #stepMs(): number {
    return (this.#seconds / this.#steps) * 1000;
  }
}
