import { type Distribution, distributionOf } from '../statistics.js';

/** D(p || q) in millinats, both given as ln p of each token. */
export function klDivergence(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  for (let token = 0; token < p.length; token += 1) {
    const probability = Math.exp(p[token]!);
    if (probability > 0) sum += probability * (p[token]! - q[token]!);
  }
  // Where both are the same but for rounding the sum may come out a hair below 0.
  return Math.max(0, 1000 * sum);
}

/** How far the predictions of a compressed cache are from those of the exact one, position by position. */
export class Divergence {
  readonly #positions: number[] = [];
  readonly #millinats: number[] = [];
  #sameToken = 0;

  /**
   * @param position tokens that the cache held
   * @param exact ln p of each token with the exact cache
   * @param other the same with the compressed one
   */
  add(position: number, exact: Float64Array, other: Float64Array): void {
    this.#positions.push(position);
    this.#millinats.push(klDivergence(exact, other));
    if (likeliest(exact) === likeliest(other)) this.#sameToken += 1;
  }

  /** Of KL, in millinats. */
  get distribution(): Distribution {
    return distributionOf(this.#millinats);
  }

  /** Part of the positions at which greedy decoding takes the same token. */
  get sameToken(): number {
    return this.#sameToken / this.#millinats.length;
  }

  /** Mean KL over stretches of `stretch` positions: where each ends, and the mean. Stretches without any are left out. */
  byPosition(stretch: number): (readonly [end: number, mean: number])[] {
    const sums = new Map<number, { sum: number; count: number }>();
    for (const [index, position] of this.#positions.entries()) {
      const end = (Math.floor((position - 1) / stretch) + 1) * stretch;
      const { sum, count } = sums.get(end) ?? { sum: 0, count: 0 };
      sums.set(end, { sum: sum + this.#millinats[index]!, count: count + 1 });
    }
    return Array.from(sums, ([end, { sum, count }]) => [end, sum / count] as const).sort(([a], [b]) => a - b);
  }
}

/** The first of the most likely. */
function likeliest(logProbabilities: Float64Array): number {
  let best = 0;
  for (let token = 1; token < logProbabilities.length; token += 1) {
    if (logProbabilities[token]! > logProbabilities[best]!) best = token;
  }
  return best;
}
