import type { Random } from '../../random.js';

/** Tokens that one hash of a trace stands for (Mooncake). */
export const hashedTokens = 512;

/** A request as a workload knows it. */
export interface Arrival {
  readonly atSeconds: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Of the prompt's blocks of `hashedTokens`, each chained to those before it; empty where nothing is known. */
  readonly blockHashes: readonly number[];
}

export interface Workload {
  readonly name: string;
  /** Requests a second as they were recorded; null where it is for the user to say. */
  readonly recordedRate: number | null;
  /** Requests that there are; Infinity where they are drawn. */
  readonly count: number;
  /** The first `count` requests, at `rate` a second on average. */
  arrivals(rate: number, count: number, random: Random): Iterable<Arrival>;
}

export const noHashes: readonly number[] = [];
