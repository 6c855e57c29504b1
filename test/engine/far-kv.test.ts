import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { demoFolder, retrievalCases } from '../support/demo.js';
import { type Generated, generate, requestFor } from '../support/generate.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { demoBlockBytes, openPack, withPack } from '../support/pack-engine.js';

/** Of 384 packed tokens, two thirds are far. */
const partlyFar = { packMidTokens: 128, packFarTokens: 256 };
const allNear = { packMidTokens: 384 };
/** Host memory for what one such sequence has far. */
const ofOne = 8 * demoBlockBytes.int4;

const long = retrievalCases().filter(({ length }) => length >= 1024);
let encode: (text: string) => Int32Array;
beforeAll(async () => {
  const tokenizer = await openTokenizer(demoFolder);
  encode = (text) => tokenizer.encode(text, { special: true, addBos: false });
});

const subject = (index = 0, over = {}) =>
  requestFor(encode(long[index]!.prompt).slice(0, 700), {
    maxTokens: 60,
    ignoreEos: true,
    logprobs: 3,
    ...over,
  });

async function answersOf(engine: Engine, requests: readonly ReturnType<typeof subject>[]) {
  const answers = await Promise.all(requests.map((request) => generate(engine, request)));
  return answers.map(({ choices }) => choices);
}

describe('a sequence of which tokens are far', () => {
  let near: Generated['choices'][];
  beforeAll(async () => {
    near = await withPack(allNear, (engine) =>
      answersOf(
        engine,
        [0, 1, 2, 3].map((i) => subject(i)),
      ),
    );
  });

  it('has the bits of one that holds them in KV memory, in a part of the bytes', async () => {
    await withPack(partlyFar, async (engine) => {
      const { choices, usage } = await generate(engine, subject(0, { reportsKv: true }));
      expect(choices).toEqual(near[0]);
      const { tokens, droppedTokens, farTokens, bytes } = usage.kv!;
      expect(farTokens).toBe(256);
      const exact = Math.ceil((tokens - droppedTokens - 384) / 32);
      expect(bytes).toBe(exact * demoBlockBytes.bf16 + 4 * demoBlockBytes.int4 + 8 * demoBlockBytes.far);
      await expectNothingHeld(engine);
    });
    expect(await withPack({ packMidTokens: 128 }, (engine) => answersOf(engine, [subject()]))).not.toEqual([
      near[0],
    ]);
  });

  it('has the same bits among others for whom KV memory and host memory are too small together', async () => {
    const tight = {
      ...partlyFar,
      packFarMemory: Math.floor(1.5 * ofOne),
      kvMemory: 30 * demoBlockBytes.bf16,
    };
    for (const swapMemory of [0, 1 << 30]) {
      await withPack({ ...tight, swapMemory }, async (engine) => {
        const requests = Array.from({ length: 6 }, (_, i) => subject(i % 4));
        const answers = await answersOf(engine, requests);
        for (const [i, choices] of answers.entries()) expect(choices).toEqual(near[i % 4]);
        await expectNothingHeld(engine);
      });
    }
  });

  it('goes on where it was left, until others need its place', async () => {
    const caching = { ...partlyFar, prefixCache: true, packFarMemory: Math.floor(1.5 * ofOne) };
    await withPack(caching, async (engine) => {
      const goOn = async (prompt: ArrayLike<number>) => {
        const request = requestFor(prompt, { maxTokens: 30, ignoreEos: true, logprobs: 3 });
        const { choices, usage } = await generate(engine, request);
        const [expected] = await withPack(allNear, (other) => answersOf(other, [request]));
        expect(choices).toEqual(expected);
        return { cached: usage.cachedTokens, tokens: [...request.prompt, ...choices[0]!.tokens] };
      };
      const first = await goOn(subject(0).prompt);
      const next = await goOn([...first.tokens, 5, 6, 7]);
      expect(next.cached).toBe(Math.floor((first.tokens.length - 1) / 32) * 32);
      const { kvFarBytes, cache } = await engine.stats();
      expect(kvFarBytes).toBe(ofOne);
      expect(cache.evictedBlocks).toBe(0);
      await goOn(subject(1).prompt);
      expect((await engine.stats()).cache.evictedBlocks).toBeGreaterThan(0);
      expect((await goOn([...next.tokens, 8])).cached).toBeLessThan(200);
    });
  });

  it('of a session that others need the place of is read anew', async () => {
    const turn = (session: string, index: number) => subject(index, { session, maxTokens: 30 });
    await withPack({ ...partlyFar, packFarMemory: Math.floor(1.5 * ofOne) }, async (engine) => {
      await generate(engine, turn('one', 0));
      const next = await generate(engine, turn('one', 1));
      expect(next.usage.cachedTokens).toBeGreaterThan(500);
      await generate(engine, turn('two', 2));
      const last = await generate(engine, turn('one', 3));
      expect(last.usage.cachedTokens).toBe(0);
      const whole = requestFor([...(await wholeOf(engine, [0, 1])), ...turn('', 3).prompt], {
        maxTokens: 30,
        ignoreEos: true,
        logprobs: 3,
      });
      expect([last.choices]).toEqual(await withPack(allNear, (other) => answersOf(other, [whole])));
      engine.endSession('one');
      engine.endSession('two');
      await expectNothingHeld(engine);
    });
  });

  /** The tokens of a session with these turns. */
  async function wholeOf(engine: Engine, turns: readonly number[]): Promise<number[]> {
    const tokens: number[] = [];
    for (const index of turns) {
      tokens.push(...subject(index).prompt);
      const request = requestFor(tokens, { maxTokens: 30, ignoreEos: true });
      tokens.push(...(await generate(engine, request)).choices[0]!.tokens);
    }
    return tokens;
  }

  it('is refused where host memory holds none, or mid less than a token sees', async () => {
    await expect(openPack({ packFarTokens: 64, packTopPages: 5 })).rejects.toThrow(
      /raise --pack-mid-tokens to 160 or lower --pack-top-pages/,
    );
    await expect(openPack({ packFarTokens: 100_000, packFarMemory: 1 << 20 })).rejects.toThrow(
      /The 100000 far tokens of one sequence take \d+ bytes of host memory.* Raise it, or lower --pack-far-tokens/,
    );
  });
});
