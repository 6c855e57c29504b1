/**
 * So much in a period, refilled evenly: a token bucket of the field's kind. It may be drawn below zero, since what an
 * answer takes is known only when it has been written; what is owed has to flow back before anything is left again.
 */
export class RateLimit {
  #level: number;
  #atMs: number;

  /** `now` gives milliseconds. */
  constructor(
    readonly limit: number,
    readonly periodSeconds: number,
    private readonly now: () => number,
  ) {
    this.#level = limit;
    this.#atMs = now();
  }

  /** Whole units that are left; 0 while something is owed. */
  get remaining(): number {
    return Math.max(0, Math.floor(this.#refilled()));
  }

  take(amount: number): void {
    this.#level = this.#refilled() - amount;
  }

  giveBack(amount: number): void {
    this.#level = Math.min(this.limit, this.#refilled() + amount);
  }

  /** Seconds until one unit is left; 0 if it is. */
  secondsUntilNext(): number {
    return this.#secondsUntil(1);
  }

  /** Seconds until nothing is missing. */
  secondsUntilFull(): number {
    return this.#secondsUntil(this.limit);
  }

  #secondsUntil(level: number): number {
    return Math.max(0, ((level - this.#refilled()) * this.periodSeconds) / this.limit);
  }

  #refilled(): number {
    const nowMs = this.now();
    const gained = ((nowMs - this.#atMs) / 1000 / this.periodSeconds) * this.limit;
    this.#level = Math.min(this.limit, this.#level + gained);
    this.#atMs = nowMs;
    return this.#level;
  }
}
