/** Each bin is this much wider than the one before. */
const growth = 1.01;
const lowest = 1e-3;
const highest = 1e8;
const logGrowth = Math.log(growth);
const binCount = Math.ceil(Math.log(highest / lowest) / logGrowth) + 1;

/**
 * A distribution in bounded memory, however many values it has seen: bins that are 1% wide, so that a percentile is right
 * to half a percent. Values below 0.001 count as 0.001 and above 1e8 as that; mean and maximum are exact.
 */
export class Histogram {
  readonly #bins = new Float64Array(binCount);
  #count = 0;
  #sum = 0;
  #max = Number.NEGATIVE_INFINITY;
  /** Many values in a row are equal: the tokens of one step. */
  #lastValue = Number.NaN;
  #lastBin = 0;

  get count(): number {
    return this.#count;
  }

  /** NaN if nothing was added. */
  get mean(): number {
    return this.#sum / this.#count;
  }

  /** NaN if nothing was added. */
  get max(): number {
    return this.#count === 0 ? Number.NaN : this.#max;
  }

  add(value: number): void {
    if (value !== this.#lastValue) {
      this.#lastValue = value;
      this.#lastBin = binOf(value);
      if (value > this.#max) this.#max = value;
    }
    this.#bins[this.#lastBin]!++;
    this.#count++;
    this.#sum += value;
  }

  /** The value below which a share `p` (0..1) of the values lies; NaN if nothing was added. */
  percentile(p: number): number {
    if (this.#count === 0) return Number.NaN;
    const rank = p * (this.#count - 1);
    let seen = 0;
    for (let bin = 0; bin < binCount; bin++) {
      seen += this.#bins[bin]!;
      if (seen > rank) return Math.min(this.#max, middleOf(bin));
    }
    return this.#max;
  }

  /** Points of the cumulative distribution, the empty bins left out. */
  cumulative(): { value: number; share: number }[] {
    const points: { value: number; share: number }[] = [];
    let seen = 0;
    for (let bin = 0; bin < binCount; bin++) {
      if (this.#bins[bin] === 0) continue;
      seen += this.#bins[bin]!;
      points.push({ value: middleOf(bin), share: seen / this.#count });
    }
    return points;
  }
}

function binOf(value: number): number {
  if (!(value > lowest)) return 0;
  return Math.min(binCount - 1, Math.floor(Math.log(value / lowest) / logGrowth));
}

function middleOf(bin: number): number {
  return lowest * growth ** (bin + 0.5);
}
