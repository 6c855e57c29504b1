/** How many tokens answers had lately, to guess what those that run still need. */
export class AnswerLength {
  /** NaN until one has ended. */
  #mean = Number.NaN;

  /** An answer that has ended. */
  add(tokens: number): void {
    this.#mean = Number.isNaN(this.#mean) ? tokens : this.#mean + (tokens - this.#mean) * weight;
  }

  /** Tokens that an answer is likely to get yet; all that it may get while nothing is known of others. */
  leftOf({ generatedTokens, remainingOutput }: { generatedTokens: number; remainingOutput: number }): number {
    if (Number.isNaN(this.#mean)) return remainingOutput;
    return Math.min(remainingOutput, Math.max(1, Math.round(this.#mean) - generatedTokens));
  }
}

/** Of the newest answer: some twenty are remembered. */
const weight = 0.05;
