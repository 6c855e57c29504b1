/**
 * Ids of a vocabulary's pieces: a hash table over parts of strings. A `Map` needs a new string for each look-up, and a
 * vocabulary's merges are close to a million of them, which is most of the time that opening a tokenizer takes.
 */
export class PieceIndex {
  /** Id by slot, -1 where empty. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  /** `pieces`: by id, with holes. Of equal pieces the first id counts. */
  constructor(private readonly pieces: readonly (string | undefined)[]) {
    let slots = 16;
    while (slots < 2 * pieces.length) slots *= 2;
    this.#mask = slots - 1;
    this.#slots = new Int32Array(slots).fill(-1);
    for (let id = 0; id < pieces.length; id++) {
      const piece = pieces[id];
      if (piece === undefined) continue;
      const slot = this.#slotOf(piece, 0, piece.length, -1);
      if (this.#slots[slot] === -1) this.#slots[slot] = id;
    }
  }

  get(piece: string): number | undefined {
    const id = this.find(piece, 0, piece.length);
    return id < 0 ? undefined : id;
  }

  /** Id of the piece text[begin, end), without the character at `hole`; -1 if there is none. */
  find(text: string, begin: number, end: number, hole = -1): number {
    return this.#slots[this.#slotOf(text, begin, end, hole)]!;
  }

  #slotOf(text: string, begin: number, end: number, hole: number): number {
    let hash = 0;
    for (let i = begin; i < end; i++) {
      if (i !== hole) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    let slot = (hash ^ (hash >>> 13)) & this.#mask;
    for (;;) {
      const id = this.#slots[slot]!;
      if (id === -1 || isPart(this.pieces[id]!, text, begin, end, hole)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }
}

function isPart(piece: string, text: string, begin: number, end: number, hole: number): boolean {
  const length = end - begin - (hole >= begin && hole < end ? 1 : 0);
  if (piece.length !== length) return false;
  for (let i = begin, at = 0; i < end; i++) {
    if (i !== hole && piece.charCodeAt(at++) !== text.charCodeAt(i)) return false;
  }
  return true;
}
