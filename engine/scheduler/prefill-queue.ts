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

/** Shortest prompt first (with ageing), or first come, first served. */
export type PrefillOrder = 'spf' | 'fcfs';

/** Tokens of a prompt that a second of waiting makes up for (Nexus, section on prefill scheduling: gamma = 15). */
export const agingTokensPerSecond = 15;
/** A step in priority is worth a prompt this much shorter. */
const tokensPerPriority = 4096;
/** A deadline this near goes first, while it can still be met. */
const urgentMs = 1000;

/**
 * Lower runs earlier. Shortest remaining prompt first, with ageing, so that a long prompt is passed by shorter ones only
 * for a bounded time: a prompt of n tokens runs before any that arrives n / 15 seconds after it. Without the length it
 * is first come, first served, and a step in priority is worth as many seconds of waiting.
 *
 * Two prompts grow older alike, so their order does not depend on the time: the score leaves it out.
 */
export function prefillScore(work: PrefillWork, order: PrefillOrder): number {
  const length = order === 'spf' ? work.remainingTokens : 0;
  return length + (agingTokensPerSecond * work.arrivalMs) / 1000 - tokensPerPriority * work.priority;
}

/** Whether a deadline is near, and can still be met: then the prompt goes before all others. */
export function isUrgent(work: PrefillWork, nowMs: number): boolean {
  const left = work.deadlineMs - nowMs;
  return left > 0 && left < urgentMs;
}

interface Entry<T> {
  readonly work: T;
  readonly score: number;
  /** Ties keep their order of arrival, then that in which they were added. */
  readonly number: number;
}

function compare(a: Entry<PrefillWork>, b: Entry<PrefillWork>): number {
  return a.score - b.score || a.work.arrivalMs - b.work.arrivalMs || a.number - b.number;
}

/** Prompts that wait for prefill. While one is in the queue its `remainingTokens` and priority stay as they are. */
export class PrefillQueue<T extends PrefillWork> {
  /** The one to run first is last, where an array grows and shrinks at no cost. */
  readonly #sorted: Entry<T>[] = [];
  readonly #entries = new Map<T, Entry<T>>();
  readonly #withDeadline = new Set<T>();
  #added = 0;

  constructor(readonly order: PrefillOrder = 'spf') {}

  get size(): number {
    return this.#sorted.length;
  }

  add(work: T): void {
    const entry = { work, score: prefillScore(work, this.order), number: this.#added++ };
    this.#entries.set(work, entry);
    this.#sorted.splice(this.#indexOf(entry), 0, entry);
    if (work.deadlineMs !== Number.POSITIVE_INFINITY) this.#withDeadline.add(work);
  }

  remove(work: T): boolean {
    const entry = this.#entries.get(work);
    if (!entry) return false;
    this.#entries.delete(work);
    this.#withDeadline.delete(work);
    this.#sorted.splice(this.#indexOf(entry), 1);
    return true;
  }

  /** The one to run first, of those that `mayRun` lets. */
  first(nowMs: number, mayRun: (work: T) => boolean = () => true): T | undefined {
    let urgent: Entry<T> | undefined;
    for (const work of this.#withDeadline) {
      const entry = this.#entries.get(work)!;
      if (isUrgent(work, nowMs) && mayRun(work) && (!urgent || compare(entry, urgent) < 0)) urgent = entry;
    }
    if (urgent) return urgent.work;
    for (let index = this.#sorted.length - 1; index >= 0; index--) {
      const { work } = this.#sorted[index]!;
      if (mayRun(work)) return work;
    }
    return undefined;
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let index = this.#sorted.length - 1; index >= 0; index--) yield this.#sorted[index]!.work;
  }

  /** Where the entry stands, or would stand. */
  #indexOf(entry: Entry<T>): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(this.#sorted[middle]!, entry) > 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
