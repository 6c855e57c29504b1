/** Running sequences, in the order in which they began to decode. */
export class DecodeSet<T> {
  readonly #items = new Set<T>();

  get size(): number {
    return this.#items.size;
  }

  add(item: T): void {
    this.#items.add(item);
  }

  delete(item: T): boolean {
    return this.#items.delete(item);
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }

  /** The first `limit` that may run; first come, first served beyond it. */
  pick(limit: number, mayRun: (item: T) => boolean): T[] {
    const picked: T[] = [];
    for (const item of this.#items) {
      if (picked.length === limit) break;
      if (mayRun(item)) picked.push(item);
    }
    return picked;
  }
}
