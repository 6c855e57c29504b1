import type { PackedForm } from './page-classes.js';

/** Fewer tokens are not worth a conversion. */
const leastTokens = 128;

/**
 * What running sequences are squeezed into when memory is short, before anyone waits or gives way. When that happens
 * follows from what else runs, and so do the answers from then on: the one place where they do, which is why an operator
 * must ask for it.
 */
export class PressureRule {
  /** Tokens that stay exact behind the newest: whole pages. */
  readonly recentTokens: number;

  constructor(
    readonly form: PackedForm,
    recentTokens: number,
    readonly pageTokens: number,
  ) {
    this.recentTokens = Math.ceil(recentTokens / pageTokens) * pageTokens;
  }

  /** How many tokens, from the first on, a sequence would have squeezed now; no more than are, if that is not worth it. */
  squeezedAt(promptTokens: number, computedTokens: number, squeezedTokens: number): number {
    if (computedTokens < promptTokens) return squeezedTokens;
    const older = Math.floor((computedTokens - this.recentTokens) / this.pageTokens) * this.pageTokens;
    return older - squeezedTokens >= leastTokens ? older : squeezedTokens;
  }
}
