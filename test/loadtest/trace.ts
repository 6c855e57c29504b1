import type { Trace } from '../../loadtest/serve/completion-stream.js';

/** A request that was due at 0, with pieces at these milliseconds; it ends with the last of them. */
export function traceOf(pieceTimes: readonly number[], over: Partial<Trace> = {}): Trace {
  return {
    dueAt: 0,
    pieceTimes,
    endedAt: pieceTimes.at(-1) ?? 0,
    promptTokens: 10,
    completionTokens: pieceTimes.length,
    ...over,
  };
}
