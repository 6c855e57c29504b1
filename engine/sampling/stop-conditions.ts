import type { FinishReason } from '../types.js';

/** What a new token did to a choice. */
export interface StopOutcome {
  /** Text that is now certain to belong to the choice. */
  readonly text: string;
  readonly finish?: { readonly reason: FinishReason; readonly stoppedBy?: string | number };
}

export interface StopOptions {
  readonly stop: readonly string[];
  /** Token ids that end a choice: the model's eos ids unless ignored, and the request's own. */
  readonly stopTokenIds: ReadonlySet<number>;
  readonly maxTokens: number;
  readonly minTokens: number;
  /** A grammar says when a choice ends: an end token below the minimum is one that had to come. */
  readonly constrained: boolean;
}

/**
 * Decides after each token whether a choice ends, and what of its text may be shown. Text that could yet become a stop
 * string is withheld, so stop strings work across token borders and never show.
 */
export class StopConditions {
  #withheld = '';
  #tokens = 0;

  constructor(private readonly options: StopOptions) {}

  /** Tokens that end a choice. */
  get tokenIds(): ReadonlySet<number> {
    return this.options.stopTokenIds;
  }

  /** `decode` gives the text that this token made certain; it is not called for a token that ends the choice. */
  next(token: number, decode: (token: number) => string, flush: () => string): StopOutcome {
    this.#tokens++;
    const mayStop = this.#tokens > this.options.minTokens;
    if ((mayStop || this.options.constrained) && this.options.stopTokenIds.has(token)) {
      return { text: this.#rest(flush()), finish: { reason: 'stop', stoppedBy: token } };
    }
    this.#withheld += decode(token);
    const found = mayStop ? this.#find() : undefined;
    if (found) return found;
    if (this.#tokens >= this.options.maxTokens) {
      this.#withheld += flush();
      return this.#find() ?? { text: this.#rest(''), finish: { reason: 'length' } };
    }
    const keep = this.#possibleStopLength();
    const text = this.#withheld.slice(0, this.#withheld.length - keep);
    this.#withheld = this.#withheld.slice(this.#withheld.length - keep);
    return { text };
  }

  #rest(tail: string): string {
    const text = this.#withheld + tail;
    this.#withheld = '';
    return text;
  }

  #find(): StopOutcome | undefined {
    let first = -1;
    let stoppedBy = '';
    for (const stop of this.options.stop) {
      const at = this.#withheld.indexOf(stop);
      if (at >= 0 && (first < 0 || at < first)) {
        first = at;
        stoppedBy = stop;
      }
    }
    if (first < 0) return undefined;
    const text = this.#withheld.slice(0, first);
    this.#withheld = '';
    return { text, finish: { reason: 'stop', stoppedBy } };
  }

  /** Length of the longest end of the withheld text that a stop string begins with. */
  #possibleStopLength(): number {
    let longest = 0;
    for (const stop of this.options.stop) {
      for (let length = Math.min(stop.length - 1, this.#withheld.length); length > longest; length--) {
        if (stop.startsWith(this.#withheld.slice(-length))) longest = length;
      }
    }
    return longest;
  }
}
