import type { MergeTable } from './merge-table.js';

/** Up to here a scan for the best pair beats the heap's bookkeeping. */
const scanLimit = 32;
/** Positions fit below the rank in a float64's 53 bits: 2^26 ranks, 2^27 positions. */
const positions = 2 ** 27;
const noMerge = 0x7fffffff;

/**
 * Byte-pair encoding of one word: merges the pair of lowest rank, the leftmost of equals, until none is left.
 * Time is n log n at worst.
 */
export class PairMerger {
  /** Scratch: where the table has the pair (i, i + 1), or -1. */
  readonly #places = new Int32Array(scanLimit);

  constructor(readonly table: MergeTable) {}

  /** Merges `symbols[0..count)` in place; returns how many are left. */
  merge(symbols: Int32Array, count: number): number {
    return count <= scanLimit
      ? mergeByScan(this.table, this.#places, symbols, count)
      : mergeByHeap(this.table, symbols, count);
  }
}

function mergeByScan(table: MergeTable, places: Int32Array, symbols: Int32Array, count: number): number {
  for (let i = 0; i + 1 < count; i++) places[i] = table.find(symbols[i]!, symbols[i + 1]!);
  while (count > 1) {
    let best = -1;
    let bestRank = noMerge;
    for (let i = 0; i + 1 < count; i++) {
      const place = places[i]!;
      if (place === -1) continue;
      const rank = table.rankAt(place);
      if (rank < bestRank) {
        bestRank = rank;
        best = i;
      }
    }
    if (best === -1) break;
    symbols[best] = table.mergedAt(places[best]!);
    count--;
    for (let i = best + 1; i < count; i++) {
      symbols[i] = symbols[i + 1]!;
      places[i] = places[i + 1]!;
    }
    places[best] = best + 1 < count ? table.find(symbols[best]!, symbols[best + 1]!) : -1;
    if (best > 0) places[best - 1] = table.find(symbols[best - 1]!, symbols[best]!);
  }
  return count;
}

function mergeByHeap(table: MergeTable, symbols: Int32Array, count: number): number {
  if (count > positions) throw new RangeError(`a word of ${count} symbols is too long to encode`);
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  // places[i]: where the table has the pair that starts at i, or -1; heap entries of other ranks are out of date.
  const places = new Int32Array(count);
  const heap = new PairHeap(3 * count);
  const consider = (at: number) => {
    const right = next[at]!;
    const place = right < count ? table.find(symbols[at]!, symbols[right]!) : -1;
    places[at] = place;
    if (place !== -1) heap.push(table.rankAt(place) * positions + at);
  };
  for (let i = 0; i < count; i++) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  for (let i = 0; i < count; i++) consider(i);
  while (heap.size > 0) {
    const key = heap.pop();
    const rank = Math.floor(key / positions);
    const at = key - rank * positions;
    const place = places[at]!;
    if (place === -1 || table.rankAt(place) !== rank) continue;
    const right = next[at]!;
    symbols[at] = table.mergedAt(place);
    places[right] = -1;
    next[at] = next[right]!;
    if (next[at]! < count) previous[next[at]!] = at;
    consider(at);
    if (previous[at]! >= 0) consider(previous[at]!);
  }
  let left = 0;
  for (let i = 0; i < count; i = next[i]!) symbols[left++] = symbols[i]!;
  return left;
}

/** A binary min-heap of numbers. Merging n symbols pushes below 3 n of them. */
class PairHeap {
  readonly #keys: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  push(key: number): void {
    const keys = this.#keys;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[at] = keys[parent]!;
      at = parent;
    }
    keys[at] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const top = keys[0]!;
    const size = --this.#size;
    const key = keys[size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= key) break;
      keys[at] = keys[child]!;
      at = child;
    }
    keys[at] = key;
    return top;
  }
}
