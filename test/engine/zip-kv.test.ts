import { beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../../config/schema.js';
import type { Engine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { demoFolder, retrievalCases } from '../support/demo.js';
import { openEngineHere } from '../support/engine-here.js';
import { type Generated, generate, requestFor } from '../support/generate.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { promptsFirst } from '../support/prompts-first.js';

type EngineOver = Partial<Settings['engine']>;

function open(engine: EngineOver = {}): Promise<Engine> {
  return openEngineHere({
    kvMemory: 128 << 20,
    kv: 'zip',
    zipTau: 0.95,
    kvRecentTokens: 64,
    maxSequences: 8,
    ...engine,
  });
}

async function withEngine<T>(over: EngineOver, work: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await open(over);
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

const long = retrievalCases().filter(({ length }) => length >= 512);

let prompt: Int32Array;
let other: Int32Array;
beforeAll(async () => {
  const tokenizer = await openTokenizer(demoFolder);
  const encode = (text: string) => tokenizer.encode(text, { special: true, addBos: false });
  prompt = encode(long[0]!.prompt);
  other = encode(long[1]!.prompt);
});

const ask = (engine: Engine, over = {}): Promise<Generated> =>
  generate(engine, requestFor(prompt, { maxTokens: 140, ignoreEos: true, logprobs: 2, ...over }));

describe('a request under zip', () => {
  it('has the same bits alone, among others, in any steps, and from the prefix cache', async () => {
    const alone = await withEngine({ prefixCache: false }, (engine) => ask(engine));
    await withEngine({ maxStepTokens: 96 }, async (engine) => {
      const crowd = [1, 2, 3].map((part) =>
        generate(engine, requestFor(other.slice(0, 150 * part), { maxTokens: 60, ignoreEos: true })),
      );
      const [one, two] = await Promise.all([ask(engine), ask(engine, { n: 2 }), ...crowd]);
      const again = await ask(engine);
      // The probes are read anew.
      expect(again.usage.cachedTokens).toBe(Math.floor((prompt.length - 16) / 32) * 32);
      for (const { choices } of [one!, two!, again]) expect(choices[0]).toEqual(alone.choices[0]);
      await expectNothingHeld(engine);
    });
  });

  it('goes on with the same bits where it was swapped out or computed anew', async () => {
    const tight = { ...promptsFirst, kvMemory: 25 * 196_608, prefixCache: false } as const;
    const requests = (engine: Engine) =>
      Promise.all(
        [0, 1, 2, 3, 4, 5, 6, 7].map((part) =>
          generate(
            engine,
            requestFor(other.slice(0, 60 + 10 * part), { maxTokens: 300, ignoreEos: true, logprobs: 1 }),
          ),
        ),
      );
    const expected = (await withEngine({}, requests)).map(({ choices }) => choices);
    for (const swapMemory of [0, 1 << 30]) {
      await withEngine({ ...tight, swapMemory }, async (engine) => {
        expect((await requests(engine)).map(({ choices }) => choices)).toEqual(expected);
        expect((await engine.stats()).preemptions).toBeGreaterThan(0);
      });
    }
  });

  it('is int4 at tau 1 and int2 at tau 0, bit for bit', async () => {
    for (const [zipTau, kv] of [
      [1, 'int4'],
      [0, 'int2'],
    ] as const) {
      const zip = await withEngine({ zipTau }, (engine) => ask(engine));
      const uniform = await withEngine({ kv }, (engine) => ask(engine));
      expect(zip.choices).toEqual(uniform.choices);
    }
  });

  it('comes only under pressure where that is asked for, before anyone gives way', async () => {
    const settings = {
      ...promptsFirst,
      kv: 'exact',
      kvPressure: 'zip',
      kvMemory: 45 * 196_608,
      prefixCache: false,
    } as const;
    const requests = (engine: Engine) =>
      Promise.all(
        [0, 1, 2].map((part) =>
          generate(
            engine,
            requestFor(other.slice(part, part + 250), { maxTokens: 400, ignoreEos: true, reportsKv: true }),
          ),
        ),
      );
    const exactly = await withEngine({ ...settings, kvMemory: 128 * 2 ** 20 }, async (engine) => {
      const answers = await requests(engine);
      expect((await engine.stats()).kvPackedBlocks).toBe(0);
      return answers;
    });
    await withEngine(settings, async (engine) => {
      const squeezed = await requests(engine);
      const { kvPackedBlocks, preemptions } = await engine.stats();
      expect(kvPackedBlocks).toBeGreaterThan(0);
      expect(preemptions).toBe(0);
      for (const [index, { choices, usage }] of squeezed.entries()) {
        expect(choices[0]!.tokens).toHaveLength(400);
        expect(usage.kv!.bytes).toBeLessThanOrEqual(exactly[index]!.usage.kv!.bytes);
      }
    });
  });

  it('goes down the ladder rung by rung, but for requests that do not allow it', async () => {
    const settings = {
      ...promptsFirst,
      kv: 'exact',
      kvPressure: 'zip',
      kvMemory: 54 * 196_608,
      prefixCache: false,
      swapMemory: 1 << 30,
    } as const;
    const run =
      (length: number, over = {}) =>
      (engine: Engine) =>
        generate(engine, requestFor(prompt.slice(0, 480), { maxTokens: length, ignoreEos: true, ...over }));
    const expected = await withEngine({ kv: 'exact' }, run(300));
    await withEngine(settings, async (engine) => {
      const answers = await Promise.all([
        run(300, { kvPressure: 'off' })(engine),
        ...[1, 2, 3].map(() => run(300)(engine)),
      ]);
      expect(answers[0]!.choices).toEqual(expected.choices);
      for (const { choices } of answers.slice(1)) expect(choices[0]!.tokens).toHaveLength(300);
      const { kvPackedBlocks, kvPages } = await engine.stats();
      const zipped = kvPages![0]!.all;
      expect(zipped).toBeGreaterThan(0);
      // The others are int8.
      expect(kvPackedBlocks).toBeGreaterThan(zipped);
      await expectNothingHeld(engine);
    });
  });

  it('ends the ladder in partitions, but for requests that do not allow it', async () => {
    const settings = {
      ...promptsFirst,
      kv: 'exact',
      kvPressure: 'pack',
      kvMemory: 40 * 196_608,
      prefixCache: false,
      packSinkTokens: 32,
      packMidTokens: 128,
      packTopPages: 2,
    } as const;
    const run =
      (over = {}) =>
      (engine: Engine) =>
        generate(
          engine,
          requestFor(prompt.slice(0, 400), { maxTokens: 500, ignoreEos: true, reportsKv: true, ...over }),
        );
    const expected = await withEngine({ kv: 'exact' }, run());
    await withEngine(settings, async (engine) => {
      const answers = await Promise.all([
        run({ kvPressure: 'off' })(engine),
        ...[1, 2, 3].map(() => run()(engine)),
      ]);
      expect(answers[0]!.choices[0]!.tokens).toEqual(expected.choices[0]!.tokens);
      for (const { choices } of answers) expect(choices[0]!.tokens).toHaveLength(500);
      const dropped = answers.map(({ usage }) => usage.kv!.droppedTokens);
      expect(dropped[0]).toBe(0);
      expect(Math.max(...dropped)).toBeGreaterThanOrEqual(128);
      for (const { kv } of answers.slice(1).map(({ usage }) => usage)) {
        expect(kv!.tokens).toBe(899);
      }
      expect((await engine.stats()).kvDroppedTokens).toBeGreaterThanOrEqual(Math.max(...dropped));
      await expectNothingHeld(engine);
    });
  });

  it('is not asked for where it would do nothing', async () => {
    await expect(open({ kvPressure: 'int8', kv: 'int4' })).rejects.toThrow(
      '--kv-pressure int8 does nothing under --kv int4',
    );
  });

  it('says what its KV came to, and the engine what it packed, layer by layer', async () => {
    await withEngine({}, async (engine) => {
      expect((await ask(engine)).usage.kv).toBeUndefined();
      const { kv } = (await ask(engine, { reportsKv: true })).usage;
      // Whole pages that are older than 64 tokens, every 64 tokens; the last sampled token is not in the cache.
      const tokens = prompt.length + 139;
      const packed = Math.floor((Math.floor((tokens - 1) / 64) * 64 - 64) / 32);
      expect(kv!.tokens).toBe(tokens);
      expect(kv!.layers.map(({ all }) => all)).toEqual(new Array(6).fill(packed));
      const high = kv!.layers.reduce((sum, layer) => sum + layer.high, 0);
      expect(high).toBeGreaterThan(0);
      expect(high).toBeLessThan(6 * packed);
      expect(new Set(kv!.layers.map((layer) => layer.high)).size).toBeGreaterThan(1);
      const [int4, int2, int8] = [58_368 / 6, 33_792 / 6, 104_448];
      const recentBlocks = Math.ceil((tokens - 32 * packed) / 32);
      expect(kv!.bytes).toBeCloseTo(high * int4 + (6 * packed - high) * int2 + recentBlocks * int8, 3);
      const { kvPages, kvPackedBlocks } = await engine.stats();
      // Of both.
      expect(kvPages!.map(({ all }) => all)).toEqual(new Array(6).fill(2 * packed));
      // The prompt's recent blocks were converted twice.
      const recentOfPrompt = Math.ceil(prompt.length / 32) - Math.floor((prompt.length - 64) / 32);
      expect(kvPackedBlocks).toBe(2 * (packed + recentOfPrompt));
    });
    await withEngine({ kv: 'int4' }, async (engine) => {
      expect((await ask(engine, { reportsKv: true })).usage.kv!.layers).toEqual([]);
      expect((await engine.stats()).kvPages).toBeUndefined();
    });
  });
});
