import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Deadlines } from '../../engine/deadlines.js';
import type { EngineError } from '../../engine/errors.js';
import type { Tokenizer } from '../../engine/model/text.js';
import { RequestState } from '../../engine/request-state.js';
import { requestFor } from '../support/generate.js';

describe('deadlines', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('may be farther away than a timer can sleep', () => {
    const thirtyDaysMs = 30 * 24 * 3600 * 1000;
    const request = new RequestState(
      requestFor([1], { deadlineMs: thirtyDaysMs }),
      performance.now(),
      undefined as unknown as Tokenizer,
      () => undefined,
    );
    const running = new Set([request]);
    let looks = 0;
    const failed: EngineError[] = [];
    const deadlines = new Deadlines({
      queueTimeoutMs: 0,
      now: () => performance.now(),
      requests: () => {
        looks++;
        return running;
      },
      retryAfterSeconds: () => 1,
      fail: (state, error) => {
        running.delete(state);
        failed.push(error);
      },
    });
    deadlines.watch();
    vi.advanceTimersByTime(60_000);
    expect(looks).toBe(1);
    vi.advanceTimersByTime(thirtyDaysMs);
    expect(failed).toMatchObject([{ code: 'deadline_exceeded' }]);
    expect(looks).toBeLessThan(10);
    deadlines.close();
  });

  it('count from when a request came, not from when it was submitted', () => {
    const request = requestFor([1], { deadlineMs: 500, passedMs: 200 });
    const state = new RequestState(request, 1000, undefined as unknown as Tokenizer, () => undefined);
    expect(state.deadlineMs).toBe(1300);
  });
});
