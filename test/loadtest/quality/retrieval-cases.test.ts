import { describe, expect, it } from 'vitest';
import { openChatTemplate, openTokenizer } from '../../../engine/index.js';
import { answerTokens, retrievalCases } from '../../../loadtest/quality/retrieval-cases.js';
import { demoFolder } from '../../support/demo.js';

const tokenizer = await openTokenizer(demoFolder);
const template = await openChatTemplate(demoFolder);
const plan = { contexts: [128, 512], depths: [0, 50, 100], samples: 3, seed: 1 };
const textOf = (prompt: Int32Array) => tokenizer.decode(prompt, { skipSpecial: false });

describe('retrieval cases', () => {
  const cases = retrievalCases(plan, tokenizer, template);

  it('are so many for each context and depth, and leave room for the answer', () => {
    expect(cases).toHaveLength(2 * 3 * 3);
    for (const { context, prompt } of cases) {
      expect(prompt.length).toBeLessThanOrEqual(context - answerTokens);
      // No sentence that would still have fitted is missing.
      expect(prompt.length).toBeGreaterThan(context - answerTokens - 40);
    }
  });

  it('say the value once, where the depth says', () => {
    for (const { depth, prompt, value } of cases) {
      const text = textOf(prompt);
      const body = text.slice(text.indexOf('Read this text.'), text.indexOf('\nQuestion:'));
      const parts = body.split(new RegExp(`\\b${value}\\b`));
      // A name may look at a lamp elsewhere in the text, so the fact is among the places.
      expect(parts.length).toBeGreaterThanOrEqual(2);
      if (depth === 0) expect(parts[0]!.length).toBeLessThan(body.length / 2);
      if (depth === 100) expect(parts.at(-1)!).toMatch(/^[^.]*\.$/);
    }
  });

  it('are the same for the same seed, whichever others there are, and others for another', () => {
    const alone = retrievalCases({ ...plan, contexts: [512], depths: [50] }, tokenizer, template);
    const among = cases.filter(({ context, depth }) => context === 512 && depth === 50);
    expect(alone).toEqual(among);
    const reseeded = retrievalCases({ ...plan, seed: 2 }, tokenizer, template);
    expect(reseeded.map(({ value }) => value)).not.toEqual(cases.map(({ value }) => value));
  });

  it('are plain text for a model without a chat template', () => {
    const [plain] = retrievalCases({ ...plan, samples: 1 }, tokenizer, null);
    expect(textOf(plain!.prompt)).toMatch(/^Read this text\.\n.*\nQuestion: .*\?\nAnswer:$/s);
  });

  it('name a context in which no question fits', () => {
    expect(() => retrievalCases({ ...plan, contexts: [40] }, tokenizer, template)).toThrow(
      /a context of 40 tokens is too short/,
    );
  });
});
