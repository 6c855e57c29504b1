import { beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../config/schema.js';
import type { Engine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { demoFolder, retrievalCases } from '../support/demo.js';
import { openEngineHere } from '../support/engine-here.js';
import { generate, requestFor } from '../support/generate.js';

async function withEngine<T>(
  over: Partial<Settings['engine']>,
  work: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = await openEngineHere({ kvMemory: 128 << 20, prefillTau: 0.8, maxSequences: 8, ...over });
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

let prompt: Int32Array;
beforeAll(async () => {
  const tokenizer = await openTokenizer(demoFolder);
  const texts = retrievalCases().map(({ prompt: text }) => text);
  prompt = tokenizer.encode(texts.join('\n'), { special: true, addBos: false }).slice(0, 1200);
});

const ask = (engine: Engine, length = prompt.length) =>
  generate(engine, requestFor(prompt.slice(0, length), { maxTokens: 8, ignoreEos: true, logprobs: 2 }));

describe('a prompt that does not look everywhere', () => {
  it('has the same bits alone, among others, in any steps, and from the prefix cache', async () => {
    for (const kv of ['exact', 'zip'] as const) {
      const alone = await withEngine({ kv, prefixCache: false }, (engine) => ask(engine));
      const dense = await withEngine({ kv, prefillTau: 1 }, (engine) => ask(engine));
      expect(alone.choices).not.toEqual(dense.choices);
      await withEngine({ kv, maxStepTokens: 96 }, async (engine) => {
        const [one, shorter] = await Promise.all([ask(engine), ask(engine, 1000), ask(engine, 700)]);
        expect(one!.choices).toEqual(alone.choices);
        const again = await ask(engine);
        expect(again.choices).toEqual(alone.choices);
        // All but the end, whose rows look everywhere.
        expect(again.usage.cachedTokens).toBe(1024);
        expect((await ask(engine, 1000)).choices).toEqual(shorter!.choices);
      });
    }
  });

  it('goes on from what a shorter prompt has left in the cache', async () => {
    const alone = await withEngine({ prefixCache: false }, (engine) => ask(engine));
    await withEngine({}, async (engine) => {
      await ask(engine, 900);
      const { choices, usage } = await ask(engine);
      expect(usage.cachedTokens).toBe(768);
      expect(choices).toEqual(alone.choices);
    });
  });
});
