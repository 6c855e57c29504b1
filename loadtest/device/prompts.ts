import { Random } from '../random.js';

/** Random ids below `vocab`, the same for the same seed. */
export function randomPrompt(length: number, vocab: number, seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length }, () => random.below(vocab));
}

/** Prompts that differ from each other. */
export function randomPrompts(count: number, length: number, vocab: number, seed: number): number[][] {
  return Array.from({ length: count }, (_, index) => randomPrompt(length, vocab, seed + index));
}
