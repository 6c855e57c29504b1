import type { BornClass } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import type { PackingRule } from './packing-rule.js';
import type { PackedForm } from './page-classes.js';
import type { PressureRule } from './pressure-rule.js';

/** When sequences are packed, and into what. */
export interface PackingSchedule {
  /** All that sequences are ever packed into. */
  readonly forms: readonly PackedForm[];
  /** What the sequence is packed into next. */
  formOf(sequence: Sequence): PackedForm;
  /** Whether a token must not be computed before what is due is packed; otherwise that is done when it can be. */
  readonly isStrict: boolean;
  /** Tokens of the sequence that are packed into that form, or should be, when the token at `position` is computed. */
  packedAt(sequence: Sequence, position: number): number;
  /** What tokens behind the prompt are written to, and what is not packed of it becomes; absent: the class of steps. */
  readonly recent?: BornClass;
  /** How many of the prompt's tokens are of that class, or packed, when the token at `position` is computed. */
  roundedAt(sequence: Sequence, position: number): number;
  /** The first position behind `position` at which the class of some page is another. */
  nextAt(sequence: Sequence, position: number): number;
  /** Tokens that are computed while all is exact. */
  exactTokens(sequence: Sequence): number;
  /** How much attention each page receives, by layer, for what is packed at `position`; undefined where nobody looked. */
  scoresAt(sequence: Sequence, position: number): Float64Array[] | undefined;
}

/** By the place in the sequence alone. */
export function byRule(rule: PackingRule): PackingSchedule {
  return {
    forms: [rule.form],
    formOf: () => rule.form,
    isStrict: true,
    packedAt: ({ promptTokens }, position) => rule.packedAt(promptTokens, position),
    recent: rule.recent,
    roundedAt: ({ promptTokens }, position) => rule.roundedAt(promptTokens, position),
    nextAt: ({ promptTokens }, position) => rule.nextAt(promptTokens, position),
    exactTokens: ({ promptTokens }) => rule.exactTokens(promptTokens),
    scoresAt: ({ saliency, promptTokens }, position) =>
      saliency?.scoresAt(rule.decidedAt(promptTokens, position)),
  };
}

/** What was squeezed for lack of memory. */
export function underPressure({ rungs, pageTokens, partitions }: PressureRule): PackingSchedule {
  const sinkPages = (partitions?.sinkTokens ?? 0) / pageTokens;
  return {
    forms: rungs,
    formOf: ({ rung }) => rungs[rung]!,
    isStrict: false,
    packedAt: ({ squeezedTokens }) => squeezedTokens,
    roundedAt: () => 0,
    nextAt: () => Number.POSITIVE_INFINITY,
    exactTokens: () => Number.POSITIVE_INFINITY,
    scoresAt: ({ saliency, squeezedTokens, droppedTokens }, position) => {
      const scores = saliency?.latestScores(position, (squeezedTokens + droppedTokens) / pageTokens);
      // Of the pages that are held.
      const dropped = droppedTokens / pageTokens;
      return scores?.map((layer) =>
        layer.filter((_, page) => page < sinkPages || page >= sinkPages + dropped),
      );
    },
  };
}
