import { operatorClasses } from '../device/device.js';
import { besideRow, type CostModel, factorCount, factorRow } from './cost-model.js';
import type { FinishedStep } from './policy.js';

const classes = operatorClasses.length;

/** Part of a step's error that its factors take on: after some fifty steps of a kind they are where they should be. */
const gain = 0.03;
/** The smoothed error that is shown follows a little faster. */
const shownGain = 0.05;
/** A step that a pause of the machine made ten times as long counts as one that took twice as long. */
const largestError = Math.LN2;
/** Beyond this it is not the constants that are wrong. */
const largestFactor = Math.log(4);

/**
 * Learns online what constants miss: a factor on predicted seconds for each lane and operator class, moved slowly by
 * measured / predicted, and another on what steps take beside the other lane. Where the device does not measure operator
 * classes, a step's error falls on each by its part.
 *
 *     const correction = new Correction();
 *     const model = new CostModel(work, constants, units, { factors: correction.factors });
 */
export class Correction {
  /** `[alone, beside][lane][operator class]`, prefill first. */
  readonly factors = new Float64Array(factorCount).fill(1);
  readonly #predicted = new Float64Array(classes);
  /** Smoothed ln(measured / predicted) by lane, and whether there was a step. */
  readonly #shown = new Float64Array(2);
  readonly #seen = [false, false];

  observe({ load, units, other, seconds, opSeconds }: FinishedStep, model: CostModel): void {
    if (!(seconds > 0)) return;
    const predicted = this.#predicted;
    model.byClass(load, units, other, predicted);
    const row = factorRow(load);
    // A step beside the other lane tells of contention; what it would have taken alone is known from others.
    const moved = other ? besideRow(row) : row;
    let total = 0;
    for (let index = 0; index < classes; index++) {
      const alone = predicted[index]! * this.factors[row + index]!;
      predicted[index] = other ? alone * this.factors[moved + index]! : alone;
      total += predicted[index]!;
    }
    if (!(total > 0 && total < Number.POSITIVE_INFINITY)) return;
    const error = clamp(Math.log(seconds / total), largestError);
    this.#show(row === 0 ? 0 : 1, error);
    for (let index = 0; index < classes; index++) {
      const foreseen = predicted[index]!;
      if (foreseen === 0) continue;
      const measured = opSeconds?.[index];
      if (measured === undefined) this.#move(moved + index, (error * foreseen) / total);
      else if (measured > 0) this.#move(moved + index, clamp(Math.log(measured / foreseen), largestError));
    }
  }

  /** Measured over predicted seconds of recent steps, correction included: 1 is right, 2 is twice as slow as foreseen. */
  errorRatio(lane: FinishedStep['lane']): number {
    return Math.exp(this.#shown[lane === 'prefill' ? 0 : 1]!);
  }

  #move(at: number, error: number): void {
    this.factors[at] = Math.exp(clamp(Math.log(this.factors[at]!) + gain * error, largestFactor));
  }

  #show(lane: 0 | 1, error: number): void {
    const before = this.#shown[lane]!;
    this.#shown[lane] = this.#seen[lane] ? before + shownGain * (error - before) : error;
    this.#seen[lane] = true;
  }
}

function clamp(value: number, limit: number): number {
  return Math.min(limit, Math.max(-limit, value));
}
