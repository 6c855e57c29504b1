import type { Decision, FinishedStep, LanePolicy, Situation } from '../policy.js';
import { nearestSplit } from '../splits.js';
import { lonePhase } from './lone-phase.js';

export interface ReactiveOptions {
  readonly splits: readonly number[];
  /** Time between tokens to hold, in seconds; absent: `slack` times what decode needs alone on the device. */
  readonly tbtSeconds?: number;
  readonly slack: number;
}

/** Decode steps between two moves of the split: a step's time says little before the last move has shown. */
const stepsPerMove = 8;
/** Below this part of the target, decode has units to spare. */
const spareBelow = 0.8;
/** Weight of a new time in the running mean. */
const smoothing = 0.25;

/**
 * Two lanes on a split that follows the measured time between tokens: a notch to decode when it is over its target, a
 * notch to prefill when it is well below. No model; what SGLang's multiplexing, Bullet and semi-PD do in kind.
 */
export class ReactivePolicy implements LanePolicy {
  readonly name = 'reactive';
  readonly #options: ReactiveOptions;
  #split: number | undefined;
  #aloneSeconds = Number.NaN;
  #sharedSeconds = Number.NaN;
  #stepsSinceMove = 0;

  constructor(options: ReactiveOptions) {
    this.#options = options;
    this.#split = nearestSplit(options.splits, (options.splits.at(-1) ?? 0) / 2);
  }

  decide(situation: Situation): Decision {
    if (this.#split === undefined) return { mode: 'mixed', chunkTokens: situation.maxStepTokens };
    return (
      lonePhase(situation) ?? {
        mode: 'split',
        prefillUnits: this.#split,
        chunkTokens: situation.maxStepTokens,
      }
    );
  }

  observe({ lane, seconds, other }: FinishedStep): void {
    if (lane !== 'decode') return;
    if (!other) {
      this.#aloneSeconds = smoothed(this.#aloneSeconds, seconds);
      return;
    }
    this.#sharedSeconds = smoothed(this.#sharedSeconds, seconds);
    if (++this.#stepsSinceMove >= stepsPerMove) this.#move();
  }

  #move(): void {
    const { splits, tbtSeconds, slack } = this.#options;
    const target = tbtSeconds ?? slack * this.#aloneSeconds;
    if (this.#split === undefined || Number.isNaN(target)) return;
    const index = splits.indexOf(this.#split);
    const notch = this.#sharedSeconds > target ? -1 : this.#sharedSeconds < spareBelow * target ? 1 : 0;
    const moved = splits[index + notch];
    if (notch === 0 || moved === undefined) return;
    this.#split = moved;
    this.#stepsSinceMove = 0;
    this.#sharedSeconds = Number.NaN;
  }
}

function smoothed(mean: number, value: number): number {
  return Number.isNaN(mean) ? value : mean + smoothing * (value - mean);
}
