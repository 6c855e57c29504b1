/** What was seen of an answer's times, from this side of the network. All in ms of one clock. */
export class StreamTiming {
  #firstMs: number | undefined;
  #lastMs = 0;
  #tokens = 0;
  /** Tokens came in so many bursts; each is what one read of the network brought. */
  readonly #burstGapsMs: number[] = [];

  constructor(private readonly sentMs: number) {}

  /** Tokens have arrived. */
  add(tokens: number, nowMs: number): void {
    if (this.#firstMs === undefined) this.#firstMs = nowMs;
    else if (nowMs > this.#lastMs) this.#burstGapsMs.push(nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#tokens += tokens;
  }

  /** The server has counted the tokens: some come without text, and are not seen one by one. */
  correct(tokens: number): void {
    this.#tokens = tokens;
  }

  get tokens(): number {
    return this.#tokens;
  }

  get ttftMs(): number | undefined {
    return this.#firstMs === undefined ? undefined : this.#firstMs - this.sentMs;
  }

  /** The mean time between tokens. */
  get tbtMs(): number | undefined {
    if (this.#firstMs === undefined || this.#tokens < 2) return undefined;
    return (this.#lastMs - this.#firstMs) / (this.#tokens - 1);
  }

  /** The longest that nothing came. */
  get longestGapMs(): number | undefined {
    return this.#burstGapsMs.length === 0 ? undefined : Math.max(...this.#burstGapsMs);
  }

  /** After the first one. */
  get tokensPerSecond(): number | undefined {
    const tbt = this.tbtMs;
    return tbt === undefined || tbt === 0 ? undefined : 1000 / tbt;
  }

  get totalMs(): number {
    return this.#lastMs - this.sentMs;
  }

  get gapsMs(): readonly number[] {
    return this.#burstGapsMs;
  }
}
