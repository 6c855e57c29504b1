interface Entry<T> {
  readonly at: number;
  readonly order: number;
  readonly event: T;
}

/** Future events by time; those of one time in the order in which they were added. A binary heap. */
export class Timeline<T> {
  readonly #heap: Entry<T>[] = [];
  #added = 0;

  get nextAt(): number {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  add(at: number, event: T): void {
    const heap = this.#heap;
    heap.push({ at, order: this.#added++, event });
    let index = heap.length - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (isBefore(heap[parent]!, heap[index]!)) break;
      [heap[parent], heap[index]] = [heap[index]!, heap[parent]!];
      index = parent;
    }
  }

  /** Throws if there is none. */
  next(): T {
    const heap = this.#heap;
    const first = heap[0];
    if (!first) throw new Error('no event is left');
    const last = heap.pop()!;
    if (heap.length > 0) {
      heap[0] = last;
      let index = 0;
      for (;;) {
        let least = index;
        for (const child of [2 * index + 1, 2 * index + 2]) {
          if (child < heap.length && isBefore(heap[child]!, heap[least]!)) least = child;
        }
        if (least === index) break;
        [heap[least], heap[index]] = [heap[index]!, heap[least]!];
        index = least;
      }
    }
    return first.event;
  }
}

function isBefore(a: Entry<unknown>, b: Entry<unknown>): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
