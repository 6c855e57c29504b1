import type { ChatTemplate, Tokenizer } from '../../engine/index.js';
import { Random } from '../random.js';
import { drawFact, drawFiller, type Fact } from './facts.js';

/** A text with facts in it, and a question about one of them. */
export interface RetrievalCase {
  readonly context: number;
  /** Where the fact stands, in percent of the sentences before it. */
  readonly depth: number;
  readonly prompt: Int32Array;
  /** An answer is right if it says this. */
  readonly value: string;
}

export interface RetrievalPlan {
  /** Tokens of prompt and answer. */
  readonly contexts: readonly number[];
  readonly depths: readonly number[];
  /** Questions for each context and depth. */
  readonly samples: number;
  readonly seed: number;
}

/** A longer answer is not read to its end. */
export const answerTokens = 32;
/** Of the sentences around the fact that is asked for, how many are facts too: the model must tell them apart. */
const factShare = 0.5;

/** The same cases for the same plan and tokenizer. */
export function retrievalCases(
  plan: RetrievalPlan,
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
): RetrievalCase[] {
  return plan.contexts.flatMap((context) =>
    plan.depths.flatMap((depth) =>
      Array.from({ length: plan.samples }, (_, sample) => {
        // Of its own, so that a case does not depend on which others there are.
        const random = randomOf(plan.seed, context, depth, sample);
        return makeCase(random, context, depth, tokenizer, template);
      }),
    ),
  );
}

function randomOf(...parts: readonly number[]): Random {
  return parts.reduce((random, part) => new Random(random.uint32() ^ part), new Random(0));
}

function makeCase(
  random: Random,
  context: number,
  depth: number,
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
): RetrievalCase {
  const asked = drawFact(random);
  const budget = context - answerTokens;
  const encode = (around: readonly string[]) =>
    encodePrompt(textOf(asked, around, depth), asked.question, tokenizer, template);
  const bare = encode([]);
  if (bare.length > budget) {
    throw new Error(
      `a context of ${context} tokens is too short: a question alone has ${bare.length}, and its answer up to ${answerTokens}`,
    );
  }
  const around = sentencesFor(random, asked, budget - bare.length, tokenizer);
  let prompt = encode(around);
  // Sentences count a little more or less together than apart.
  while (prompt.length > budget) {
    around.pop();
    prompt = encode(around);
  }
  return { context, depth, prompt, value: asked.value };
}

function sentencesFor(random: Random, asked: Fact, tokens: number, tokenizer: Tokenizer): string[] {
  const told = new Set([asked.subject]);
  const sentences: string[] = [];
  let left = tokens;
  while (true) {
    const sentence = random.uniform() < factShare ? otherFact(random, asked, told) : drawFiller(random);
    if (sentence === undefined) continue;
    left -= tokenizer.encode(` ${sentence}`, { special: false, addBos: false }).length;
    if (left < 0) return sentences;
    sentences.push(sentence);
  }
}

/** None that contradicts another, and none that has the answer as its own. */
function otherFact(random: Random, asked: Fact, told: Set<string>): string | undefined {
  const { subject, sentence, value } = drawFact(random);
  if (told.has(subject) || value === asked.value) return undefined;
  told.add(subject);
  return sentence;
}

function textOf(asked: Fact, around: readonly string[], depth: number): string {
  const before = Math.round((around.length * depth) / 100);
  return [...around.slice(0, before), asked.sentence, ...around.slice(before)].join(' ');
}

function encodePrompt(
  text: string,
  question: string,
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
): Int32Array {
  const content = `Read this text.\n${text}\nQuestion: ${question}`;
  if (!template) return tokenizer.encode(`${content}\nAnswer:`, { special: true, addBos: true });
  // The template writes the bos itself.
  const rendered = template.render({ messages: [{ role: 'user', content }], addGenerationPrompt: true });
  return tokenizer.encode(rendered, { special: true, addBos: false });
}
