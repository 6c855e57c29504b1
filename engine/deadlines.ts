import { longestTimerMs } from '../config/longest-timer.js';
import { deadlineExceeded, EngineError } from './errors.js';
import type { RequestState } from './request-state.js';

export interface DeadlinesOptions {
  /** Longest wait to start, in ms; 0: no limit. */
  readonly queueTimeoutMs: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** All that have not ended. */
  readonly requests: () => Iterable<RequestState>;
  /** For who has waited too long. */
  readonly retryAfterSeconds: () => number;
  readonly fail: (request: RequestState, error: EngineError) => void;
}

/** Ends requests whose deadline has passed, and those that have waited too long to start. Sleeps until the next of them. */
export class Deadlines {
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: DeadlinesOptions) {}

  /** There may be one that is nearer. */
  watch(): void {
    const { requests, now } = this.options;
    clearTimeout(this.#timer);
    let next = Number.POSITIVE_INFINITY;
    for (const request of requests()) next = Math.min(next, this.#limitMs(request));
    if (next === Number.POSITIVE_INFINITY) return;
    const sleepMs = Math.min(Math.max(0, next - now()) + 1, longestTimerMs);
    this.#timer = setTimeout(() => this.#endOverdue(), sleepMs);
    this.#timer.unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #limitMs({ startedMs, arrivalMs, deadlineMs }: RequestState): number {
    const { queueTimeoutMs } = this.options;
    if (queueTimeoutMs === 0 || !Number.isNaN(startedMs)) return deadlineMs;
    return Math.min(deadlineMs, arrivalMs + queueTimeoutMs);
  }

  #endOverdue(): void {
    const { requests, fail, now } = this.options;
    const nowMs = now();
    for (const request of [...requests()]) {
      if (this.#limitMs(request) <= nowMs) fail(request, this.#errorOf(request, nowMs));
    }
    this.watch();
  }

  #errorOf({ request, deadlineMs }: RequestState, nowMs: number): EngineError {
    if (deadlineMs <= nowMs) return deadlineExceeded(request.deadlineMs!);
    const { queueTimeoutMs, retryAfterSeconds } = this.options;
    return new EngineError('queue_full', `The request waited ${queueTimeoutMs} ms without starting.`, {
      retryAfterSeconds: retryAfterSeconds(),
    });
  }
}
