/** Seeded random numbers, so that two runs send the same load and make the same model. */
export class Random {
  #state: Uint32Array;

  constructor(seed: number) {
    // SplitMix32 spreads the seed over the state, so that neighbouring seeds give unrelated numbers.
    let mixed = seed >>> 0;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let z = mixed;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    });
  }

  /** Uniform over 32 bits (xoshiro128**, Blackman and Vigna). */
  uint32(): number {
    const s = this.#state;
    const scrambled = Math.imul(s[1]!, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= shifted;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** In (0, 1): never 0, so that its logarithm is finite. */
  uniform(): number {
    return (this.uint32() + 0.5) / 2 ** 32;
  }

  /** 0 .. below - 1 */
  below(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }

  /** Mean 0, variance 1 (Box-Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  exponential(mean: number): number {
    return -mean * Math.log(this.uniform());
  }
}
