import { randomPrompts } from '../device/prompts.js';
import type { Runner, RunnerOptions } from './runner.js';

/** Agreement of two runners about what follows the same prompts. */
export interface Agreement {
  /** Correlation of their logits, the worst of the prompts'. 1 is equality up to scale. */
  readonly correlation: number;
  /** Prompts after which both find the same token the most likely, of `prompts`. */
  readonly sameBest: number;
  readonly prompts: number;
}

const promptCount = 8;
const promptTokens = 24;
const candidateCount = 256;

/**
 * Below this the two do not compute the same function. Random weights of Llama-3.2-1B's shape, rounded to 8 bits by each side
 * in its own way, leave 0.995, and 0.75 rounded to 4 bits: there ours correlate with those of bf16 weights by 0.78 and
 * llama.cpp's by 0.73. A wrong head order, RoPE layout or norm leaves about 0.
 */
const leastCorrelation = { bf16: 0.9, int8: 0.9, int4: 0.6 };

/** Throws an Error if the two do not compute the same model: a comparison of their speed would mean nothing. */
export async function checkSameModel(
  a: Runner,
  b: Runner,
  vocab: number,
  weights: RunnerOptions['weights'],
): Promise<Agreement> {
  const [candidates] = randomPrompts(1, candidateCount, vocab, 71);
  let correlation = 1;
  let sameBest = 0;
  for (const prompt of randomPrompts(promptCount, promptTokens, vocab, 72)) {
    const ofA = await a.probe(prompt, candidates!);
    const ofB = await b.probe(prompt, candidates!);
    correlation = Math.min(correlation, correlationOf(ofA.logits, ofB.logits));
    if (ofA.best === ofB.best) sameBest += 1;
  }
  const least = leastCorrelation[weights];
  // Not "<": NaN must fail too.
  if (!(correlation >= least)) {
    throw new Error(
      `both sides compute different models: with ${weights} weights their logits correlate by ` +
        `${correlation.toFixed(3)}, and ${least} is the least that rounding leaves`,
    );
  }
  return { correlation, sameBest, prompts: promptCount };
}

function correlationOf(a: readonly number[], b: readonly number[]): number {
  const meanA = a.reduce((sum, value) => sum + value, 0) / a.length;
  const meanB = b.reduce((sum, value) => sum + value, 0) / b.length;
  let product = 0;
  let squareA = 0;
  let squareB = 0;
  for (const [index, value] of a.entries()) {
    const deviationA = value - meanA;
    const deviationB = b[index]! - meanB;
    product += deviationA * deviationB;
    squareA += deviationA ** 2;
    squareB += deviationB ** 2;
  }
  return product / Math.sqrt(squareA * squareB);
}
