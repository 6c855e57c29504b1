import { readFileSync } from 'node:fs';
import type { Random } from '../random.js';
import { tokenize } from '../serve/prompt-source.js';
import type { Target } from '../serve/target.js';

/**
 * Prompts that are stretches of a text. Under `zip` what a sequence takes follows from where it looks, and a model does not look
 * at shuffled words as at a text. No two begin at the same place, so that none is answered from the prefix cache.
 */
export class TextPrompts {
  readonly #begun = new Set<number>();

  private constructor(
    private readonly file: string,
    private readonly ids: readonly number[],
    private readonly random: Random,
  ) {}

  static async open(target: Target, file: string, random: Random): Promise<TextPrompts> {
    return TextPrompts.of(file, await tokenize(target, readFileSync(file, 'utf8')), random);
  }

  static of(file: string, ids: readonly number[], random: Random): TextPrompts {
    return new TextPrompts(file, ids, random);
  }

  /** Throws an Error if the text is shorter, or has no place left at which none has begun. */
  next(tokens: number): number[] {
    const places = this.ids.length - tokens + 1;
    const left = Array.from({ length: Math.max(0, places) }, (_, place) => place).filter(
      (place) => !this.#begun.has(place),
    );
    if (left.length === 0) {
      throw new Error(
        `${this.file} has ${this.ids.length} tokens, too few for one more prompt of ${tokens}: give a longer --text`,
      );
    }
    const begin = left[this.random.below(left.length)]!;
    this.#begun.add(begin);
    return this.ids.slice(begin, begin + tokens);
  }
}
