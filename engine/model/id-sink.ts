/** A growing list of token ids. */
export class IdSink {
  #ids = new Int32Array(256);
  #length = 0;

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

  /** The ids so far, in memory of their own. */
  take(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  #grow(atLeast: number): void {
    const larger = new Int32Array(Math.max(atLeast, 2 * this.#ids.length));
    larger.set(this.#ids);
    this.#ids = larger;
  }
}
