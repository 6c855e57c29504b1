/** What compiling a grammar may take: states and edges that are looked at, so that it is the same at all times. */
export class Effort {
  #left: number;

  constructor(most = Number.POSITIVE_INFINITY) {
    this.#left = most;
  }

  /** Throws `TooMuchEffort` if there are not so many steps left. */
  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) throw new TooMuchEffort('compiling the grammar takes more than it may here');
  }
}

export class TooMuchEffort extends Error {
  override readonly name = 'TooMuchEffort';
}
