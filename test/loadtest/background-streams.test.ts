import { describe, expect, it } from 'vitest';
import { BackgroundStreams } from '../../loadtest/serve/background-streams.js';
import type { Streaming } from '../../loadtest/serve/completion-stream.js';

const target = { url: 'http://127.0.0.1:1' };
const next = () => ({ model: 'demo', prompt: [1], maxTokens: 9 });
const trace = { dueAt: 0, pieceTimes: [], endedAt: 0, promptTokens: 1, completionTokens: 9 };

/** Brings pieces at these times, and then none until it is stopped. */
const stream =
  (...times: number[]): Streaming =>
  async (_target, _request, { signal, onPiece } = {}) => {
    for (const at of times) onPiece!(at, 'x');
    await new Promise((resolve) => signal!.addEventListener('abort', resolve));
    return trace;
  };

describe('running streams', () => {
  it('are looked at when they have been stopped, so that looking makes no gaps', async () => {
    const streams = await BackgroundStreams.start(target, 1, next, stream(10, 14, 20));
    expect(() => streams.gapsTouching(0, 20)).toThrow('when they have been stopped');
    expect(await streams.during(async () => 'measured')).toBe('measured');
    expect(streams.gapsTouching(0, 20)).toEqual([4, 6]);
    expect(streams.gapsTouching(14, 20)).toEqual([6]);
  });

  it('have a gap that is open when they are stopped', async () => {
    const from = performance.now();
    const streams = await BackgroundStreams.start(target, 1, next, stream(from - 5));
    await streams.during(async () => {});
    expect(streams.gapsTouching(from, Number.POSITIVE_INFINITY)).toEqual([expect.any(Number)]);
  });

  it('say so where one has failed, and are stopped where what they run beside fails', async () => {
    let pieces = 0;
    const failing: Streaming = async (_target, _request, { onPiece } = {}) => {
      onPiece!(performance.now(), 'x');
      pieces += 1;
      return { ...trace, error: 'the server has gone' };
    };
    const failed = await BackgroundStreams.start(target, 1, next, failing);
    await expect(failed.during(async () => {})).rejects.toThrow(
      'a running stream failed: the server has gone',
    );
    expect(pieces).toBe(1);
    const streams = await BackgroundStreams.start(target, 1, next, stream(1));
    await expect(streams.during(() => Promise.reject(new Error('no prompt')))).rejects.toThrow('no prompt');
    expect(streams.gapsTouching(0, 1)).toHaveLength(0);
  });
});
