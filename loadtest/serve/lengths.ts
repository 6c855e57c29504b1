import type { Random } from '../random.js';

/** Draws a number of tokens, at least 1. */
export type LengthDistribution = (random: Random) => number;

/**
 * `512`: always as many; `128-1024`: uniform; `exp:512`: exponential of this mean. Throws an Error that says so for
 * anything else.
 */
export function parseLengths(text: string): LengthDistribution {
  const [, fixed] = /^(\d+)$/.exec(text) ?? [];
  if (fixed !== undefined && Number(fixed) > 0) return () => Number(fixed);
  const [, from, to] = /^(\d+)-(\d+)$/.exec(text) ?? [];
  if (from !== undefined && Number(from) > 0 && Number(to) >= Number(from)) {
    return (random) => Number(from) + random.below(Number(to) - Number(from) + 1);
  }
  const [, mean] = /^exp:(\d+)$/.exec(text) ?? [];
  if (mean !== undefined && Number(mean) > 0) {
    return (random) => Math.max(1, Math.round(random.exponential(Number(mean))));
  }
  throw new Error(`"${text}" is no length: expected 512, 128-1024 or exp:512 (tokens)`);
}
