import { z } from 'zod';
import { Random } from '../random.js';
import { hashedTokens } from '../simulate/workloads/workload.js';
import { requestJson } from './http.js';
import type { Target } from './target.js';

/** The answer of `POST /tokenize`. */
const Tokenized = z.object({ tokens: z.array(z.int().nonnegative()).min(1) });

/** Ids of a text by the server's tokenizer, without those that a prompt begins with. */
export async function tokenize(target: Target, prompt: string): Promise<number[]> {
  const body = JSON.stringify({ prompt, add_special_tokens: false });
  const answer = await requestJson({ target, method: 'POST', path: '/tokenize', body });
  const parsed = Tokenized.safeParse(answer);
  if (!parsed.success)
    throw new Error(`${target.url}/tokenize gave no "tokens"; is it another kind of server?`);
  return parsed.data.tokens;
}

/** Words that any vocabulary reads. */
const words = (
  'the of and a to in is that for it was on are as with his they at be this from have or by one had not but what all ' +
  'were when we there can an your which their said if do will each about how up out them then she many some so these'
).split(' ');

/** Text of about `characters` characters. */
export function randomText(characters: number, random: Random): string {
  const parts: string[] = [];
  for (let length = 0; length < characters; ) {
    const word = words[random.below(words.length)]!;
    parts.push(word);
    length += word.length + 1;
  }
  return parts.join(' ');
}

/**
 * Prompts of an exact number of tokens that the served model can read, no two alike: ids that its own tokenizer gave for
 * words, shuffled. So no prompt is answered from the prefix cache.
 */
export class PromptSource {
  private constructor(
    private readonly ids: readonly number[],
    private readonly random: Random,
    /** How many characters of `randomText` make one token. */
    readonly charactersPerToken: number,
  ) {}

  static async open(target: Target, random: Random): Promise<PromptSource> {
    const text = randomText(4000, random);
    const tokens = await tokenize(target, text);
    return new PromptSource(tokens, random, text.length / tokens.length);
  }

  next(tokens: number): number[] {
    return this.#draw(tokens, this.random);
  }

  /**
   * A prompt whose blocks of 512 tokens are the same wherever their hash is the same, as a recorded trace has them: these
   * may be answered from the prefix cache. Where hashes are missing it is like no other.
   */
  ofBlocks(hashes: readonly number[], tokens: number): number[] {
    const known = hashes.flatMap((hash) => this.#draw(hashedTokens, new Random(hash)));
    return [...known.slice(0, tokens), ...this.next(Math.max(0, tokens - known.length))];
  }

  #draw(tokens: number, random: Random): number[] {
    return Array.from({ length: tokens }, () => this.ids[random.below(this.ids.length)]!);
  }
}
