import type { BinCounts } from '../../live/latency-bins.js';
import type { HelloFrame } from '../../live/live-protocol.js';

export type Bins = HelloFrame['latencyBins'];

/** Latencies of the last so many samples; what is older has left. */
export class LatencyWindow {
  readonly #counts: Float64Array;
  readonly #samples: BinCounts[] = [];
  #total = 0;

  constructor(
    private readonly bins: Bins,
    private readonly length: number,
  ) {
    this.#counts = new Float64Array(bins.count);
  }

  get total(): number {
    return this.#total;
  }

  push(counts: BinCounts): void {
    this.#samples.push(counts);
    this.#add(counts, 1);
    if (this.#samples.length > this.length) this.#add(this.#samples.shift()!, -1);
  }

  clear(): void {
    this.#samples.length = 0;
    this.#counts.fill(0);
    this.#total = 0;
  }

  /** The value in ms below which a share `p` (0..1) of them lies; null if there are none. */
  percentile(p: number): number | null {
    if (this.#total === 0) return null;
    const rank = p * (this.#total - 1);
    let seen = 0;
    for (let bin = 0; bin < this.bins.count; bin++) {
      seen += this.#counts[bin]!;
      if (seen > rank) return this.#edgeMs(bin + 0.5);
    }
    return null;
  }

  /** Counts of bins `width` times as wide, from the first to the last that is not empty. */
  bars(width: number): { fromMs: number; toMs: number; count: number }[] {
    const first = this.#counts.findIndex((count) => count > 0);
    if (first < 0) return [];
    const last = this.#counts.findLastIndex((count) => count > 0);
    const bars: { fromMs: number; toMs: number; count: number }[] = [];
    for (let bin = first - (first % width); bin <= last; bin += width) {
      const count = this.#counts.subarray(bin, bin + width).reduce((sum, one) => sum + one, 0);
      bars.push({ fromMs: this.#edgeMs(bin), toMs: this.#edgeMs(bin + width), count });
    }
    return bars;
  }

  #edgeMs(bin: number): number {
    return this.bins.lowestMs * this.bins.growth ** bin;
  }

  #add(counts: BinCounts, sign: 1 | -1): void {
    for (let at = 0; at < counts.length; at += 2) {
      this.#counts[counts[at]!]! += sign * counts[at + 1]!;
      this.#total += sign * counts[at + 1]!;
    }
  }
}
