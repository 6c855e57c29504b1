import { decidesByAttention, type PackedForm } from './page-classes.js';

/** Fewer tokens are not worth a conversion. */
const leastTokens = 128;

/** What a sequence may give: its older tokens in the form of a rung of the ladder. */
export interface Squeeze {
  /** Place in `PressureRule.rungs`. */
  readonly rung: number;
  /** Tokens, from the first on, that are to be in it. */
  readonly end: number;
}

/** Where a sequence stands on the ladder. */
interface Squeezed {
  readonly promptTokens: number;
  readonly computedTokens: number;
  readonly rung: number;
  readonly squeezedTokens: number;
}

/**
 * What running sequences are squeezed into when memory is short, before anyone waits or gives way: a ladder of forms, each
 * smaller than the one before. A sequence is on one rung, and goes down to the next one as a whole. When that happens
 * follows from what else runs, and so do the answers from then on: the one place where they do, which is why an operator
 * must ask for it.
 */
export class PressureRule {
  /** Tokens that stay exact behind the newest: whole pages. */
  readonly recentTokens: number;

  constructor(
    readonly rungs: readonly PackedForm[],
    recentTokens: number,
    readonly pageTokens: number,
  ) {
    this.recentTokens = Math.ceil(recentTokens / pageTokens) * pageTokens;
  }

  /** The rung whose pages are chosen by where a sequence looks, if there is one. */
  get chosenForm(): PackedForm | undefined {
    return this.rungs.find(decidesByAttention);
  }

  /** The next squeeze of a sequence, the mildest that is worth it: what has become older since the last one comes first. */
  next({ promptTokens, computedTokens, rung, squeezedTokens }: Squeezed): Squeeze | undefined {
    if (computedTokens < promptTokens) return undefined;
    const end = Math.floor((computedTokens - this.recentTokens) / this.pageTokens) * this.pageTokens;
    if (end - squeezedTokens >= leastTokens) return { rung, end };
    return squeezedTokens >= leastTokens && rung + 1 < this.rungs.length
      ? { rung: rung + 1, end }
      : undefined;
  }
}
