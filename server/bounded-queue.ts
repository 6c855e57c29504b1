import { EngineError } from '../engine/errors.js';
import { type ApiError, toApiError } from './openai/errors.js';

/** A thread may be at work on one of them for some seconds. */
const retryAfterSeconds = 5;

export interface QueueLimits {
  /** So many may wait. */
  readonly most: number;
  /** So much they may hold in memory together, with the one that the thread is at work on. */
  readonly bytes: number;
}

/**
 * Counts what waits for a thread that does one after another, and refuses what comes when too much does. What was given up
 * counts until its turn, for it is in memory until then.
 */
export class BoundedQueue {
  /** With the one that the thread is at work on. */
  #held = 0;
  #heldBytes = 0;

  constructor(
    /** What the requests have for which it waits. */
    private readonly what: string,
    private readonly limits: QueueLimits,
  ) {}

  /** What `work` on so many bytes resolves to; rejects with `ApiError` 429 where as many wait as may. */
  async run<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    if (this.#held > this.limits.most) throw this.#full('--max-queue');
    // What is alone is not too much.
    if (this.#held > 0 && this.#heldBytes + bytes > this.limits.bytes) throw this.#full('--body-limit');
    this.#held++;
    this.#heldBytes += bytes;
    try {
      return await work();
    } finally {
      this.#held--;
      this.#heldBytes -= bytes;
    }
  }

  #full(option: string): ApiError {
    const message = `Too many requests with ${this.what} are waiting (${option}).`;
    return toApiError(new EngineError('queue_full', message, { retryAfterSeconds }));
  }
}
