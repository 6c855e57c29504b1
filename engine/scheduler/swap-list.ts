/** Sequences whose KV is in host memory, oldest first, and how many are on their way there. */
export class SwapList<T extends { readonly arrivalMs: number; readonly paused: boolean }> {
  readonly #swapped: T[] = [];
  #leaving = 0;

  get size(): number {
    return this.#swapped.length;
  }

  /** Whether a copy to host memory runs, whose pages are not free yet. */
  get isLeaving(): boolean {
    return this.#leaving > 0;
  }

  leaving(): void {
    this.#leaving++;
  }

  arrived(): void {
    this.#leaving--;
  }

  add(item: T): void {
    const index = this.#swapped.findIndex(({ arrivalMs }) => arrivalMs > item.arrivalMs);
    this.#swapped.splice(index < 0 ? this.#swapped.length : index, 0, item);
  }

  delete(item: T): void {
    const index = this.#swapped.indexOf(item);
    if (index >= 0) this.#swapped.splice(index, 1);
  }

  /** The first one that would run if it were back. */
  oldest(): T | undefined {
    return this.#swapped.find(({ paused }) => !paused);
  }
}
