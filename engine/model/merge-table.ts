/**
 * Which pairs of tokens merge, at what rank, into which token: a hash table with open addressing in one typed array,
 * because a JavaScript `Map` of pair keys takes several times as long per look-up and this is the tokenizer's inner loop.
 */
export class MergeTable {
  /** [slots, 4]: left, right, rank, merged; left is -1 in an empty slot. */
  readonly #slots: Int32Array;
  readonly #mask: number;
  #lookups = 0;

  constructor(pairs: number) {
    let slots = 16;
    while (slots < 2 * pairs) slots *= 2;
    this.#mask = slots - 1;
    this.#slots = new Int32Array(4 * slots).fill(-1);
  }

  /** Pairs looked up since construction: the work that tests bound. */
  get lookups(): number {
    return this.#lookups;
  }

  /** A pair that is there already keeps its first, better rank. */
  add(left: number, right: number, rank: number, merged: number): void {
    const at = this.#slotOf(left, right);
    if (this.#slots[at] !== -1) return;
    this.#slots[at] = left;
    this.#slots[at + 1] = right;
    this.#slots[at + 2] = rank;
    this.#slots[at + 3] = merged;
  }

  /** Where `rankAt` and `mergedAt` find the pair, or -1 if it does not merge. */
  find(left: number, right: number): number {
    this.#lookups++;
    const at = this.#slotOf(left, right);
    return this.#slots[at] === -1 ? -1 : at;
  }

  rankAt(place: number): number {
    return this.#slots[place + 2]!;
  }

  mergedAt(place: number): number {
    return this.#slots[place + 3]!;
  }

  #slotOf(left: number, right: number): number {
    const slots = this.#slots;
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    let at = (hash & this.#mask) << 2;
    while (slots[at] !== -1 && (slots[at] !== left || slots[at + 1] !== right)) {
      at = (at + 4) & ((this.#mask << 2) | 3);
    }
    return at;
  }
}
