/**
 * How latencies are counted. Each bin is `growth` times as wide as the one before, so that a percentile is right to half of
 * that. Whoever watches is told these numbers, and knows what a bin stands for.
 */
export const latencyBins = { lowestMs: 0.05, growth: 1.05, count: 346 } as const;

/** Counts of bins as they go over the wire: bin, count, bin, count, the empty ones left out. */
export type BinCounts = readonly number[];

/** What is below the first bin counts as in it, what is above the last one (20 minutes) as in that. */
function binOf(ms: number): number {
  const { lowestMs, growth, count } = latencyBins;
  if (!(ms > lowestMs)) return 0;
  return Math.min(count - 1, Math.floor(Math.log(ms / lowestMs) / Math.log(growth)));
}

/** Latencies since they were last taken. */
export class LatencyBins {
  readonly #counts = new Uint32Array(latencyBins.count);

  add(ms: number): void {
    this.#counts[binOf(ms)]!++;
  }

  take(): BinCounts {
    const taken: number[] = [];
    this.#counts.forEach((count, bin) => {
      if (count > 0) taken.push(bin, count);
    });
    this.#counts.fill(0);
    return taken;
  }
}
