import type { Decision, LanePolicy, Situation } from '../policy.js';
import { nearestSplit } from '../splits.js';
import { lonePhase } from './lone-phase.js';

/** Two lanes on a fixed split, chosen by whoever started the server. */
export class StaticPolicy implements LanePolicy {
  readonly name = 'static';

  /** `prefillShare`: of the units, above 0 and below 1. */
  constructor(
    private readonly splits: readonly number[],
    private readonly prefillShare: number,
  ) {}

  decide(situation: Situation): Decision {
    const prefillUnits = nearestSplit(this.splits, this.prefillShare * situation.units);
    if (prefillUnits === undefined) return { mode: 'mixed', chunkTokens: situation.maxStepTokens };
    return lonePhase(situation) ?? { mode: 'split', prefillUnits, chunkTokens: situation.maxStepTokens };
  }
}
