import { describe, expect, it } from 'vitest';
import { StreamTiming } from '../../../server/web/playground/stream-timing.js';

describe('the times of a streamed answer', () => {
  it('knows nothing before the first token', () => {
    const timing = new StreamTiming(1000);
    expect(timing.ttftMs).toBeUndefined();
    expect(timing.tbtMs).toBeUndefined();
    timing.add(1, 1040);
    expect(timing.ttftMs).toBe(40);
    expect(timing.tbtMs).toBeUndefined();
  });

  it('takes tokens that arrive together for one burst', () => {
    const timing = new StreamTiming(0);
    timing.add(1, 10);
    timing.add(1, 10);
    timing.add(1, 30);
    timing.add(1, 34);
    expect(timing.tokens).toBe(4);
    expect(timing.tbtMs).toBe(8);
    expect(timing.tokensPerSecond).toBe(125);
    expect(timing.longestGapMs).toBe(20);
    expect(timing.gapsMs).toEqual([20, 4]);
    expect(timing.totalMs).toBe(34);
  });

  it('takes the count of the server over its own', () => {
    const timing = new StreamTiming(0);
    timing.add(1, 10);
    timing.add(1, 20);
    timing.correct(6);
    expect(timing.tokens).toBe(6);
    expect(timing.tbtMs).toBe(2);
  });
});
