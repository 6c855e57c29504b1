const bins = 256;

/** A value over time as means of at most 256 intervals: where time goes on, two become one. */
export class TimeSeries {
  readonly #weighted = new Float64Array(bins);
  readonly #seconds = new Float64Array(bins);
  #width = 0.25;
  #end = 0;

  /** The value was `value` from `from` to `to`, which come in order. */
  add(from: number, to: number, value: number): void {
    while (to > this.#width * bins) this.#halve();
    let at = from;
    while (at < to) {
      const bin = Math.min(bins - 1, Math.floor(at / this.#width));
      const until = bin === bins - 1 ? to : Math.min(to, (bin + 1) * this.#width);
      // Where rounding leaves the bin's end at its beginning, the rest is its own.
      const seconds = until > at ? until - at : to - at;
      this.#weighted[bin]! += value * seconds;
      this.#seconds[bin]! += seconds;
      at += seconds;
    }
    this.#end = Math.max(this.#end, to);
  }

  /** Intervals in which anything was added. */
  points(): { seconds: number; value: number }[] {
    const points: { seconds: number; value: number }[] = [];
    for (let bin = 0; bin < bins && bin * this.#width < this.#end; bin++) {
      const seconds = this.#seconds[bin]!;
      if (seconds > 0)
        points.push({ seconds: (bin + 0.5) * this.#width, value: this.#weighted[bin]! / seconds });
    }
    return points;
  }

  #halve(): void {
    for (const values of [this.#weighted, this.#seconds]) {
      for (let bin = 0; bin < bins / 2; bin++) values[bin] = values[2 * bin]! + values[2 * bin + 1]!;
      values.fill(0, bins / 2);
    }
    this.#width *= 2;
  }
}
