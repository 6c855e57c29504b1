import { describe, expect, it } from 'vitest';
import { RateLimit } from '../../../server/keys/rate-limit.js';

function limitOf(limit: number, periodSeconds: number) {
  const clock = { ms: 0 };
  return { clock, limit: new RateLimit(limit, periodSeconds, () => clock.ms) };
}

describe('rate limit', () => {
  it('refills evenly, and never beyond its limit', () => {
    const { clock, limit } = limitOf(60, 60);
    limit.take(60);
    expect(limit.remaining).toBe(0);
    clock.ms += 1500;
    expect(limit.remaining).toBe(1);
    clock.ms += 3_600_000;
    expect(limit.remaining).toBe(60);
  });

  it('has what was owed flow back before anything is left', () => {
    const { clock, limit } = limitOf(100, 10);
    limit.take(350);
    expect(limit.remaining).toBe(0);
    expect(limit.secondsUntilNext()).toBeCloseTo(25.1);
    expect(limit.secondsUntilFull()).toBeCloseTo(35);
    clock.ms += 25_000;
    expect(limit.remaining).toBe(0);
    clock.ms += 101;
    expect(limit.remaining).toBe(1);
  });

  it('takes back what was not used', () => {
    const { limit } = limitOf(10, 60);
    limit.take(10);
    limit.giveBack(25);
    expect(limit.remaining).toBe(10);
  });

  it('lets through what it says over a long time, however it is asked', () => {
    const { clock, limit } = limitOf(600, 60);
    let taken = 0;
    for (let step = 0; step < 100_000; step++) {
      clock.ms += (step * 7919) % 40;
      if (limit.remaining < 1) continue;
      const amount = 1 + ((step * 31) % 50);
      limit.take(amount);
      taken += amount;
    }
    const allowed = 600 + (clock.ms / 60_000) * 600;
    expect(taken).toBeLessThanOrEqual(allowed + 50);
    expect(taken).toBeGreaterThan(allowed - 650);
  });
});
