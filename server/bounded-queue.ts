import { EngineError } from '../engine/errors.js';
import { toApiError } from './openai/errors.js';

/** A thread may be at work on one of them for some seconds. */
const retryAfterSeconds = 5;

/**
 * Counts what waits for a thread that does one after another, and refuses what comes when too much does. What was given up
 * counts until its turn, for it is in memory until then.
 */
export class BoundedQueue {
  /** With the one that the thread is at work on. */
  #held = 0;

  constructor(
    /** What the requests have for which it waits. */
    private readonly what: string,
    /** So many may wait. */
    private readonly most: number,
  ) {}

  /** What `work` resolves to; rejects with `ApiError` 429 where as many wait as may. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#held > this.most) {
      const message = `Too many requests with ${this.what} are waiting (--max-queue).`;
      throw toApiError(new EngineError('queue_full', message, { retryAfterSeconds }));
    }
    this.#held++;
    try {
      return await work();
    } finally {
      this.#held--;
    }
  }
}
