/** There are more ids than anyone wants. */
export class TooManyIds extends Error {}

/** A growing list of token ids. Throws `TooManyIds` when it finds that there are more than `most`, by then twice as many at most. */
export class IdSink {
  #ids = new Int32Array(256);
  #length = 0;

  constructor(private readonly most = Number.POSITIVE_INFINITY) {}

  get length(): number {
    return this.#length;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) this.#grow(this.#length + 1);
    this.#ids[this.#length++] = id;
  }

  pushAll(ids: Int32Array): void {
    if (this.#length + ids.length > this.#ids.length) this.#grow(this.#length + ids.length);
    this.#ids.set(ids, this.#length);
    this.#length += ids.length;
  }

  /** Throws `TooManyIds` now where so many ids will come at least. */
  expect(atLeast: number): void {
    if (this.#length + atLeast > this.most) throw new TooManyIds();
  }

  /** The ids so far, in memory of their own. */
  take(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  #grow(atLeast: number): void {
    this.expect(0);
    const larger = new Int32Array(Math.max(atLeast, 2 * this.#ids.length));
    larger.set(this.#ids);
    this.#ids = larger;
  }
}
