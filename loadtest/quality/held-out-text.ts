import { readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../config/package-root.js';
import type { Tokenizer } from '../../engine/index.js';

/** 33,000 tokens that the demo model was not trained on; models/demo/README.md says how it was made. */
export const demoText = path.join(packageRoot, 'models/demo/eval/ppl.txt');

export interface WindowPlan {
  /** Tokens of each, those included that the tokenizer puts before a text. */
  readonly tokens: number;
  readonly count: number;
}

/**
 * The first `count` stretches of the file, one after another without overlap, each as its own text. Special tokens
 * written in it are recognized, as the demo model's text has them. Throws an Error if it is shorter than one window.
 */
export function readWindows(file: string, tokenizer: Tokenizer, plan: WindowPlan): Int32Array[] {
  const text = readText(file);
  const ids = tokenizer.encode(text, { special: true, addBos: false });
  const before = tokensBefore(tokenizer);
  const own = plan.tokens - before.length;
  const count = Math.min(plan.count, Math.floor(ids.length / own));
  if (count < 1) {
    throw new Error(
      `${file} has ${ids.length} tokens, fewer than a window of ${plan.tokens}: give a longer text, or a smaller --window`,
    );
  }
  return Array.from({ length: count }, (_, index) =>
    Int32Array.from([...before, ...ids.subarray(index * own, (index + 1) * own)]),
  );
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`the text ${file} cannot be read: ${(error as Error).message}`);
  }
}

/** What the tokenizer puts before every text: the bos, where it has one. */
export function tokensBefore(tokenizer: Tokenizer): Int32Array {
  const [first] = tokenizer.encode('a', { special: false, addBos: false });
  const whole = tokenizer.encode('a', { special: false, addBos: true });
  return whole.subarray(0, whole.indexOf(first!));
}
