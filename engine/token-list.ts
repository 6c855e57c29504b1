/** A growing list of token ids that can be seen as one Int32Array without a copy. */
export class TokenList {
  #tokens: Int32Array;
  #length: number;

  constructor(initial: Int32Array, expected: number) {
    this.#tokens = new Int32Array(initial.length + Math.min(expected, 1024) + 1);
    this.#tokens.set(initial);
    this.#length = initial.length;
  }

  get length(): number {
    return this.#length;
  }

  push(token: number): void {
    if (this.#length === this.#tokens.length) {
      const larger = new Int32Array(2 * this.#length);
      larger.set(this.#tokens);
      this.#tokens = larger;
    }
    this.#tokens[this.#length++] = token;
  }

  view(begin = 0, end = this.#length): Int32Array {
    return this.#tokens.subarray(begin, end);
  }
}
