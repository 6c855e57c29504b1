import { beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../config/schema.js';
import type { Engine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { policyNames } from '../../engine/scheduler/open-policy.js';
import { demoFolder, retrievalCases } from '../support/demo.js';
import { openEngineHere } from '../support/engine-here.js';
import { type Generated, generate, requestFor } from '../support/generate.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { promptsFirst } from '../support/prompts-first.js';

type EngineOver = Partial<Settings['engine']>;

function open(engine: EngineOver = {}): Promise<Engine> {
  return openEngineHere({ kvMemory: 256 << 20, kv: 'int4', kvRecentTokens: 64, ...engine });
}

const long = retrievalCases().filter(({ length }) => length >= 512);
const drawing = { ...requestFor([0]).sampling, temperature: 0.9, topP: 0.95, seed: 42n };
/** Of the demo model: 6 layers of 4 heads. */
const blockBytes = { bf16: 196_608, int8: 104_448, int4: 58_368 };

let encode: (text: string) => Int32Array;
beforeAll(async () => {
  const tokenizer = await openTokenizer(demoFolder);
  encode = (text) => tokenizer.encode(text, { special: true, addBos: false });
});

/** Passes several multiples of 64 while it decodes. */
const subject = (over = {}) =>
  requestFor(encode(long[0]!.prompt), {
    maxTokens: 200,
    ignoreEos: true,
    logprobs: 3,
    sampling: drawing,
    ...over,
  });

async function answerOf(engine: Engine, request = subject()): Promise<Generated['choices']> {
  return (await generate(engine, request)).choices;
}

describe('a request under packed KV', () => {
  let alone: Generated['choices'];
  beforeAll(async () => {
    const engine = await open({ prefixCache: false });
    alone = await answerOf(engine);
    const stats = await engine.stats();
    expect(stats.kvPackedBlocks).toBeGreaterThan(Math.floor(subject().prompt.length / 32) - 4);
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('has an answer of its own, whose beginning follows from the exact prompt', async () => {
    const exact = await open({ kv: 'exact' });
    const [expected] = await answerOf(exact);
    await exact.close();
    expect(alone[0]!.logprobs[0]).toEqual(expected!.logprobs[0]);
    expect(alone[0]!.logprobs).not.toEqual(expected!.logprobs);
  });

  it('has the same bits among others, with cancelled neighbours, and from the cache', async () => {
    const engine = await open();
    const crowd = Array.from({ length: 32 }, (_, i) => {
      const prompt = i % 4 === 0 ? long[0]!.prompt : long[i % long.length]!.prompt.slice(0, 40 + 97 * i);
      const request = requestFor(encode(prompt), { maxTokens: 8 + 7 * i, ignoreEos: true });
      if (i % 5 !== 2) return generate(engine, request);
      return new Promise<void>((resolve, reject) => {
        generate(engine, request, (count) => {
          if (count < 3) return;
          engine.cancel(request.id);
          resolve();
        }).catch(reject);
      });
    });
    const among = await Promise.all([answerOf(engine), answerOf(engine)]);
    await Promise.all(crowd);
    const again = await generate(engine, subject());
    expect(again.usage.cachedTokens).toBeGreaterThan(subject().prompt.length - 40);
    for (const choices of [...among, again.choices]) expect(choices).toEqual(alone);
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('has the same bits in whatever steps it is read, under every scheduler', async () => {
    // Small steps and large ones by turns: each scheduler with both takes twice as long and shows no more.
    for (const [turn, maxStepTokens] of [32, 1024].entries()) {
      const engine = await open({ maxStepTokens, maxSequences: 8, cores: undefined, prefixCache: false });
      for (const scheduler of policyNames.filter((_, index) => index % 2 === turn)) {
        await engine.setPolicy({ scheduler });
        const others = [1, 2, 3].map((i) => generate(engine, requestFor(encode(long[i]!.prompt))));
        expect(await answerOf(engine), `${scheduler}, ${maxStepTokens}`).toEqual(alone);
        await Promise.all(others);
      }
      await engine.close();
    }
  });

  it('does not begin with what an earlier answer left, which was computed behind packed tokens', async () => {
    const first = encode(long[1]!.prompt);
    const engine = await open();
    const answer = await generate(engine, requestFor(first, { maxTokens: 150, ignoreEos: true }));
    const next = [...first, ...answer.choices[0]!.tokens, ...encode(' and then?')];
    const continued = await generate(engine, subject({ prompt: Int32Array.from(next), maxTokens: 80 }));
    expect(continued.usage.cachedTokens).toBe(Math.floor(first.length / 32) * 32);
    await engine.close();
    const fresh = await open({ prefixCache: false });
    const uncached = await answerOf(fresh, subject({ prompt: Int32Array.from(next), maxTokens: 80 }));
    expect(continued.choices).toEqual(uncached);
    await fresh.close();
  });

  it('is held as int8 where it is not packed, as soon as its prompt was read, however short that is', async () => {
    const engine = await open();
    for (const length of [1, 20, 64, 150]) {
      const prompt = encode(long[0]!.prompt).slice(0, length);
      const request = requestFor(prompt, { maxTokens: 90, ignoreEos: true, reportsKv: true });
      const { tokens, bytes } = (await generate(engine, request)).usage.kv!;
      expect(tokens).toBe(length + 89);
      const packed = Math.max(0, Math.floor((Math.floor((tokens - 1) / 64) * 64 - 64) / 32));
      expect(bytes).toBe(packed * blockBytes.int4 + (Math.ceil(tokens / 32) - packed) * blockBytes.int8);
    }
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('shares the packed blocks of its prompt among its choices, which are converted once', async () => {
    for (const prefixCache of [true, false]) {
      const engine = await open({ prefixCache });
      const before = (await engine.stats()).kvPackedBlocks;
      const request = subject({ n: 4, maxTokens: 128 });
      let held: Promise<Awaited<ReturnType<Engine['stats']>>> | undefined;
      const { choices } = await generate(engine, request, (count) => {
        if (count > 40) held ??= engine.stats();
      });
      // Each choice's own, if it was at its end.
      const ownBlocks = 4 * Math.ceil(request.maxTokens / 32);
      const promptBlocks = Math.floor((request.prompt.length - 64) / 32);
      const { kvPackedBlocks, kvHeldBytes } = (await held)!;
      expect(kvHeldBytes.int4).toBeGreaterThanOrEqual(promptBlocks * blockBytes.int4);
      expect(kvHeldBytes.int4).toBeLessThanOrEqual((promptBlocks + ownBlocks) * blockBytes.int4);
      // Its recent blocks too, but for the one that each choice goes on writing to.
      expect(kvHeldBytes.int8).toBeLessThanOrEqual((2 + 4 * 2) * blockBytes.int8);
      expect(kvHeldBytes.bf16).toBeLessThanOrEqual((prefixCache ? promptBlocks + 2 : 0) * blockBytes.bf16);
      // Four times over it would be more.
      expect(ownBlocks).toBeLessThan(2 * promptBlocks);
      expect(kvPackedBlocks - before).toBeLessThanOrEqual(promptBlocks + ownBlocks + 4 * 4);
      expect(choices[0]!.logprobs).toEqual(alone[0]!.logprobs.slice(0, 128));
      await expectNothingHeld(engine);
      await engine.close();
    }
  });
});

describe('packed KV with little memory', () => {
  // All have room when they begin, and even packed not at their end, so that some push others out.
  const requests = () =>
    Array.from({ length: 8 }, (_, i) =>
      requestFor(encode(long[i]!.prompt).slice(0, 20 + 6 * i), {
        maxTokens: 340 - 10 * i,
        ignoreEos: true,
        logprobs: 1,
      }),
    );
  const answers = async (engine: Engine) =>
    (await Promise.all(requests().map((request) => generate(engine, request)))).map(({ choices }) => choices);

  for (const [kv, ways] of [
    [
      'int4',
      [
        [0, true],
        [12 * blockBytes.bf16, false],
      ],
    ],
    [
      'int2',
      [
        [0, false],
        [1 << 30, true],
      ],
    ],
  ] as const) {
    it(`gives way by swapping or starting anew, and gives the same bits (${kv})`, async () => {
      const roomy = await open({ kv, prefixCache: false });
      const expected = await answers(roomy);
      await roomy.close();
      for (const [swapMemory, prefixCache] of ways) {
        const engine = await open({
          ...promptsFirst,
          kv,
          swapMemory,
          prefixCache,
          kvMemory: 18 * blockBytes.bf16,
        });
        expect(await answers(engine)).toEqual(expected);
        const stats = await engine.stats();
        expect(stats.preemptions).toBeGreaterThan(0);
        expect(stats.swapsOut > 0).toBe(swapMemory > 0);
        await expectNothingHeld(engine);
        await engine.close();
      }
    });
  }

  it('runs the longest sequence that it admits', async () => {
    const engine = await open({ kvMemory: 20 * blockBytes.bf16 });
    const { contextLength } = engine.info;
    expect(contextLength).toBeLessThan(20 * 32);
    const prompt = encode(long[0]!.prompt).slice(0, contextLength - 1);
    await answerOf(
      engine,
      requestFor(prompt.slice(0, 200), { maxTokens: contextLength - 200, ignoreEos: true }),
    );
    await answerOf(engine, requestFor(prompt, { maxTokens: 1, ignoreEos: true }));
    await answerOf(engine, requestFor(prompt.slice(0, -70), { maxTokens: 70, ignoreEos: true }));
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('gets on with whatever others have left scattered over it', async () => {
    for (const kv of ['int4', 'zip'] as const) {
      const engine = await open({ kv, kvMemory: 32 * blockBytes.bf16, cores: undefined });
      const { contextLength } = engine.info;
      const promptOf = (length: number, first: number) =>
        Int32Array.from({ length }, (_, i) => 5 + ((7 * i + 131 * first + i * i * first) % 2000));
      const answers = (first: number, over = {}) =>
        generate(engine, requestFor(promptOf(contextLength - 20, first), { maxTokens: 20, ...over }));
      for (let i = 0; i < 10; i++) {
        await generate(engine, requestFor(promptOf(40 + 37 * i, i + 1), { maxTokens: 40, ignoreEos: true }));
      }
      // Each fills the memory by itself, and has to be packed in what is left.
      await Promise.all([90, 91, 92, 93].map((first) => answers(first)));
      // Nothing of it may be copied out or come from the cache.
      await answers(99, { promptLogprobs: true, logprobs: 1 });
      await engine.close();
    }
  });

  it('leaks nothing when requests are cancelled at any point', async () => {
    const engine = await open({ kvMemory: 60 * blockBytes.bf16 });
    const pending = Array.from({ length: 100 }, (_, i) => {
      const request = requestFor(encode(long[i % 12]!.prompt).slice(0, 8 * (i + 1)), {
        n: 1 + (i % 3),
        maxTokens: 150,
        ignoreEos: true,
      });
      return new Promise<void>((resolve) => {
        const at = (i * 7) % 140;
        void generate(engine, request, (count) => {
          if (count < at) return;
          engine.cancel(request.id);
          resolve();
        }).then(() => resolve());
      });
    });
    await Promise.all(pending);
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('closes in the middle of conversions', async () => {
    for (let count = 10; count < 100; count += 16) {
      const engine = await open({ kvMemory: 30 * blockBytes.bf16 });
      const outcomes = requests().map((request) =>
        generate(engine, request, (generated) => {
          if (generated >= count) void engine.close();
        }),
      );
      const settled = await Promise.allSettled(outcomes);
      expect(settled.map(({ status }) => status)).toContain('rejected');
    }
  });
});
