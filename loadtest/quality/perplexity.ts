/** How surprised a model is by a text: e to the mean of -ln p of the tokens that came. */
export class Perplexity {
  #nats = 0;
  #tokens = 0;

  get tokens(): number {
    return this.#tokens;
  }

  /** NaN before the first token. */
  get value(): number {
    return Math.exp(this.#nats / this.#tokens);
  }

  /** @param logProbabilities ln p of each token of the vocabulary @param token the one that came */
  add(logProbabilities: Float64Array, token: number): void {
    this.#nats -= logProbabilities[token]!;
    this.#tokens += 1;
  }
}
