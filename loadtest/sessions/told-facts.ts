import { drawFact, drawFiller, type Fact } from '../quality/facts.js';
import type { Random } from '../random.js';

/** A fact, and the position in the session of the token behind it. */
export interface ToldFact extends Fact {
  readonly position: number;
}

/** Of the sentences, those that are facts. */
const factShare = 0.3;

/** Text for a session, and what it tells. */
export class ToldFacts {
  readonly #bySubject = new Map<string, ToldFact>();
  /** In the order in which they were told. */
  readonly #facts: ToldFact[] = [];

  /**
   * @param tokensOf tokens of a sentence
   * @param memory tokens within which nothing contradicts what was told
   */
  constructor(
    private readonly random: Random,
    private readonly tokensOf: (text: string) => number,
    private readonly memory: number,
  ) {}

  get first(): ToldFact | undefined {
    return this.#facts[0];
  }

  /** About `tokens` tokens of sentences, from `position` on. */
  write(position: number, tokens: number): string {
    const sentences: string[] = [];
    for (let at = position; at < position + tokens; ) {
      const fact = this.random.uniform() < factShare ? this.#newFact(at) : undefined;
      const sentence = fact?.sentence ?? drawFiller(this.random);
      at += this.tokensOf(` ${sentence}`);
      sentences.push(sentence);
      if (!fact) continue;
      const told = { ...fact, position: at };
      this.#bySubject.set(fact.subject, told);
      this.#facts.push(told);
    }
    return sentences.join(' ');
  }

  /** The fact that was told nearest to so many tokens before `position`; undefined if none was within a quarter of that. */
  at(position: number, distance: number): ToldFact | undefined {
    let nearest: ToldFact | undefined;
    for (let index = this.#facts.length - 1; index >= 0; index--) {
      const fact = this.#facts[index]!;
      if (position - fact.position > 1.25 * distance) break;
      if (this.#bySubject.get(fact.subject) !== fact) continue;
      const miss = (told: ToldFact) => Math.abs(position - told.position - distance);
      if (!nearest || miss(fact) < miss(nearest)) nearest = fact;
    }
    return nearest && Math.abs(position - nearest.position - distance) <= distance / 4 ? nearest : undefined;
  }

  #newFact(position: number): Fact | undefined {
    const fact = drawFact(this.random);
    const before = this.#bySubject.get(fact.subject);
    // What stands in the sink is remembered for ever.
    if (before === this.first && before) return undefined;
    return before && position - before.position < this.memory ? undefined : fact;
  }
}
