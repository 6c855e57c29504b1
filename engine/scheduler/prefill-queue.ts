/** What the queue needs to know of a waiting or half-read prompt. */
export interface PrefillWork {
  /** Tokens still to be computed, after prefix-cache hits. */
  readonly remainingTokens: number;
  readonly arrivalMs: number;
  /** Higher runs earlier. */
  readonly priority: number;
  /** When its deadline strikes, on the clock of `arrivalMs`; Infinity: never. */
  readonly deadlineMs: number;
}

/** Tokens of a prompt that a second of waiting makes up for (Nexus, section on prefill scheduling: gamma = 15). */
const agingTokensPerSecond = 15;
/** A step in priority is worth a prompt this much shorter. */
const tokensPerPriority = 4096;
/** A deadline this near goes first, while it can still be met. */
const urgentMs = 1000;

/**
 * Lower runs earlier: shortest remaining prompt first, with ageing, so that a long prompt is passed by shorter ones only
 * for a bounded time: a prompt of n tokens runs before any that arrives n / 15 seconds after it.
 */
export function prefillScore(work: PrefillWork, nowMs: number): number {
  const waitedSeconds = (nowMs - work.arrivalMs) / 1000;
  const score =
    work.remainingTokens - agingTokensPerSecond * waitedSeconds - tokensPerPriority * work.priority;
  const untilDeadline = work.deadlineMs - nowMs;
  return untilDeadline > 0 && untilDeadline < urgentMs ? Math.min(score, 0) - tokensPerPriority : score;
}

/** Sequences that wait for prefill or are in the middle of it. Ties keep their order of arrival. */
export class PrefillQueue<T extends PrefillWork> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    this.#items.push(item);
  }

  remove(item: T): boolean {
    const index = this.#items.indexOf(item);
    if (index < 0) return false;
    this.#items.splice(index, 1);
    return true;
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }

  /** All items, the one to run first in front. */
  inOrder(nowMs: number): T[] {
    return this.#items
      .map((item, index) => ({ item, index, score: prefillScore(item, nowMs) }))
      .sort((a, b) => a.score - b.score || a.item.arrivalMs - b.item.arrivalMs || a.index - b.index)
      .map(({ item }) => item);
  }
}
