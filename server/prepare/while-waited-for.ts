import { longestTimerMs } from '../../config/longest-timer.js';
import { deadlineExceeded } from '../../engine/errors.js';
import { type ApiError, clientLeft, toApiError } from '../openai/errors.js';

/** What becomes of a body may take longer than somebody waits for it. */
export interface Patience {
  /** When it came, by `performance.now()`. */
  readonly since: number;
  readonly deadlineMs: number | undefined;
  /** Aborted when its client leaves. */
  readonly left: AbortSignal | undefined;
}

/**
 * What `work` resolves to; rejects with an `ApiError` as soon as nobody waits for that any more, and aborts the signal that
 * the work was given.
 */
export async function whileWaitedFor<T>(
  { since, deadlineMs, left }: Patience,
  work: (waitedFor: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const { signal } = controller;
  const givenUp = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as ApiError));
  });
  const leave = (): void => controller.abort(clientLeft());
  if (left?.aborted) leave();
  left?.addEventListener('abort', leave);
  let timer: NodeJS.Timeout | undefined;
  if (deadlineMs !== undefined) {
    const leftMs = Math.max(0, since + deadlineMs - performance.now());
    const abort = (): void => controller.abort(toApiError(deadlineExceeded(deadlineMs)));
    timer = setTimeout(abort, Math.min(leftMs, longestTimerMs));
  }
  try {
    return await Promise.race([givenUp, work(signal)]);
  } finally {
    clearTimeout(timer);
    left?.removeEventListener('abort', leave);
  }
}
