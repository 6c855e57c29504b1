import type { Random } from '../random.js';

/** Seconds after the start at which each of `count` requests arrives, `rate` a second on average (Poisson process). */
export function poissonArrivals(rate: number, count: number, random: Random): number[] {
  let at = 0;
  return Array.from({ length: count }, () => {
    at += random.exponential(1 / rate);
    return at;
  });
}
