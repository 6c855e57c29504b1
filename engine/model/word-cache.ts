/**
 * Encoded words, bounded: two generations, of which the older is dropped when the younger is full. A word in use moves
 * to the younger, so what is dropped was not used for a whole generation.
 */
export class WordCache {
  #young = new Map<string, number | Int32Array>();
  #old = new Map<string, number | Int32Array>();

  constructor(readonly generationWords: number) {}

  /** One id as a number, else all of them. */
  get(word: string): number | Int32Array | undefined {
    const ids = this.#young.get(word);
    if (ids !== undefined) return ids;
    const older = this.#old.get(word);
    if (older !== undefined) this.set(word, older);
    return older;
  }

  set(word: string, ids: number | Int32Array): void {
    if (this.#young.size >= this.generationWords) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(word, ids);
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }
}
