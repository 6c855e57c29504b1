import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { policyNames } from '../../engine/scheduler/open-policy.js';
import { llama1b } from '../../loadtest/random-model/model-shape.js';
import { makeRandomModel } from '../../loadtest/random-model/random-model.js';
import { Folder } from '../scripts/support.js';
import { demoFolder, retrievalCases } from '../support/demo.js';
import { openEngineHere } from '../support/engine-here.js';
import { type Generated, generate, requestFor } from '../support/generate.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { demoBlockBytes, openPack, small, withPack } from '../support/pack-engine.js';
import { promptsFirst } from '../support/prompts-first.js';

/** Has the settings of `openPack()`, for all that leaves nothing behind there. */
let plain: Engine;
beforeAll(async () => {
  plain = await openPack();
});
afterEach(() => expectNothingHeld(plain));
afterAll(() => plain.close());

const long = retrievalCases().filter(({ length }) => length >= 512);
const drawing = { ...requestFor([0]).sampling, temperature: 0.9, topP: 0.95, seed: 42n };

let encode: (text: string) => Int32Array;
beforeAll(async () => {
  const tokenizer = await openTokenizer(demoFolder);
  encode = (text) => tokenizer.encode(text, { special: true, addBos: false });
});

const subject = (over = {}) =>
  requestFor(encode(long[0]!.prompt), {
    maxTokens: 150,
    ignoreEos: true,
    logprobs: 3,
    sampling: drawing,
    ...over,
  });

async function answerOf(engine: Engine, request = subject()): Promise<Generated['choices']> {
  return (await generate(engine, request)).choices;
}

describe('a request under pack', () => {
  let alone: Generated['choices'];
  beforeAll(async () => {
    alone = await answerOf(plain);
    expect((await plain.stats()).kvDroppedTokens).toBeGreaterThan(subject().prompt.length - 300);
    await expectNothingHeld(plain);
  });

  it('has the bits of the exact cache while all of it is sink and recent', async () => {
    const sizes = { packSinkTokens: 64, packRecentTokens: 1024, packTopPages: 4 };
    const packed = await withPack(sizes, (engine) => answerOf(engine));
    const exact = await withPack({ kv: 'exact' }, (engine) => answerOf(engine));
    expect(packed).toEqual(exact);
    expect(packed).not.toEqual(alone);
  });

  it('has the bits of int4 pages while all of mid is seen', async () => {
    // Sink and mid hold all, and every page is chosen: positions are those of the sequence.
    const all = { packSinkTokens: 32, packRecentTokens: 64, packMidTokens: 2048, packTopPages: 58 };
    const every = await withPack(all, (engine) => answerOf(engine));
    const roomy = await withPack({ ...all, packMidTokens: 4096, packTopPages: 57 }, (engine) =>
      answerOf(engine),
    );
    expect(every).toEqual(roomy);
    expect(every).not.toEqual(alone);
  });

  it('has the same bits among others, some of them cancelled', async () => {
    await withPack({}, async (engine) => {
      const crowd = Array.from({ length: 16 }, (_, i) => {
        const prompt = long[i % long.length]!.prompt.slice(0, 60 + 150 * i);
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
      for (const choices of among) expect(choices).toEqual(alone);
      await expectNothingHeld(engine);
    });
  });

  it('has the same bits in whatever steps it is read, under every scheduler', async () => {
    for (const [turn, maxStepTokens] of [32, 512].entries()) {
      await withPack({ maxStepTokens, cores: undefined }, async (engine) => {
        for (const scheduler of policyNames.filter((_, index) => index % 2 === turn)) {
          await engine.setPolicy({ scheduler });
          const others = [1, 2, 3].map((i) => generate(engine, requestFor(encode(long[i]!.prompt))));
          expect(await answerOf(engine), `${scheduler}, ${maxStepTokens}`).toEqual(alone);
          await Promise.all(others);
        }
      });
    }
  });

  it('gives each of its choices what it would have alone', async () => {
    const { choices } = await generate(plain, subject({ n: 3 }));
    expect(choices[0]).toEqual(alone[0]);
    expect(new Set(choices.map(({ text }) => text)).size).toBe(3);
    const short = subject({ prompt: encode(long[0]!.prompt).slice(0, 70), n: 3, maxTokens: 90 });
    expect((await generate(plain, short)).choices[0]).toEqual((await answerOf(plain, { ...short, n: 1 }))[0]);
  });

  it('scores a prompt the same in any steps', async () => {
    const scores = async (engine: Engine) => {
      const { prompt } = await generate(engine, subject({ promptLogprobs: true, maxTokens: 0 }));
      return prompt!.map(({ logprob }) => logprob);
    };
    const one = await scores(plain);
    expect(one).toHaveLength(subject().prompt.length);
    expect(await withPack({ maxStepTokens: 40 }, scores)).toEqual(one);
  });

  it('is swapped or computed anew when memory is short, with the same bits', async () => {
    const requests = () =>
      Array.from({ length: 6 }, (_, i) =>
        // Short prompts, so that all are admitted at once and grow into each other.
        requestFor(encode(long[i]!.prompt).slice(0, 20 + 10 * i), {
          maxTokens: 300 - 20 * i,
          ignoreEos: true,
          logprobs: 1,
        }),
      );
    const answers = async (engine: Engine) =>
      (await Promise.all(requests().map((request) => generate(engine, request)))).map(
        ({ choices }) => choices,
      );
    const expected = await answers(plain);
    for (const swapMemory of [0, 1 << 30]) {
      await withPack({ ...promptsFirst, swapMemory, kvMemory: 20 * demoBlockBytes.bf16 }, async (engine) => {
        expect(await answers(engine)).toEqual(expected);
        const stats = await engine.stats();
        expect(stats.preemptions).toBeGreaterThan(0);
        expect(stats.swapsOut > 0).toBe(swapMemory > 0);
        await expectNothingHeld(engine);
      });
    }
  });

  it('leaks nothing when requests are cancelled at any point', async () => {
    await withPack({ kvMemory: 30 * demoBlockBytes.bf16 }, async (engine) => {
      const pending = Array.from({ length: 40 }, (_, i) => {
        const request = requestFor(encode(long[i % 12]!.prompt).slice(0, 20 * (i + 1)), {
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
    });
  });

  it('is told what its KV came to', async () => {
    const request = subject({ maxTokens: 100, reportsKv: true });
    const { usage } = await generate(plain, request);
    const tokens = request.prompt.length + 99;
    const { kv } = usage;
    expect(kv!.tokens).toBe(tokens);
    expect(kv!.droppedTokens).toBe(Math.floor((tokens - 1) / 64) * 64 - 64 - 32 - 128);
    const exact = Math.ceil((tokens - kv!.droppedTokens - 128) / 32);
    expect(kv!.bytes).toBe(exact * demoBlockBytes.bf16 + 4 * demoBlockBytes.int4);
  });
});

describe('the prefix cache under pack', () => {
  const caching = { prefixCache: true };
  let whole: Int32Array;
  beforeAll(() => {
    whole = encode(
      long
        .slice(0, 8)
        .map(({ prompt }) => prompt)
        .join('\n'),
    );
  });
  const turn = (prompt: ArrayLike<number>) =>
    requestFor(prompt, { maxTokens: 50, ignoreEos: true, logprobs: 1, sampling: drawing });
  const alone = (request: ReturnType<typeof turn>) => answerOf(plain, request);

  it('has the turns of a conversation read once, with the same bits', async () => {
    await withPack(caching, async (engine) => {
      let tokens = whole.slice(0, 500);
      let computed = 0;
      for (const added of [45, 130, 0]) {
        const { choices, usage } = await generate(engine, turn(tokens));
        expect(usage.cachedTokens).toBe(Math.floor(computed / 32) * 32);
        expect(choices).toEqual(await alone(turn(tokens)));
        computed = tokens.length + 49;
        tokens = Int32Array.from([...tokens, ...choices[0]!.tokens, ...whole.slice(2000, 2000 + added)]);
      }
    });
  });

  it('shares what prompts that begin alike have read while all of it was exact', async () => {
    const other = Int32Array.from([...whole.slice(0, 300), ...whole.slice(1000, 1200)]);
    await withPack(caching, async (engine) => {
      await generate(engine, turn(whole.slice(0, 500)));
      const { choices, usage } = await generate(engine, turn(other));
      // Before position 128 nothing moves from the 96 tokens of sink and recent.
      expect(usage.cachedTokens).toBe(128);
      expect(choices).toEqual(await alone(turn(other)));
      const { cache } = await engine.stats();
      expect(cache).toMatchObject({ queriedTokens: 1000, hitTokens: 128 });
    });
  });

  it('is given no block of a prompt while others of it are packed, which would end the engine', async () => {
    // Read to its end behind position 64, from where on what moves at 128 is packed ahead; both at once.
    const prompt = whole.slice(0, 100);
    await withPack(caching, async (engine) => {
      const answers = await Promise.all([1, 2].map(() => answerOf(engine, turn(prompt))));
      expect(answers[0]).toEqual(answers[1]);
      expect(answers[0]).toEqual(await alone(turn(prompt)));
      // What moved first had all blocks go to the cache that are exact.
      expect((await generate(engine, turn([...prompt, ...prompt]))).usage.cachedTokens).toBe(96);
    });
  });

  it('gives up what ended first when memory is wanted', async () => {
    // Each takes some 8 of the 60 blocks, of which some are kept free to pack in.
    await withPack({ ...caching, kvMemory: 60 * demoBlockBytes.bf16 }, async (engine) => {
      const prompts = Array.from({ length: 14 }, (_, i) => whole.slice(100 * i, 100 * i + 400));
      const answers: number[][] = [];
      for (const prompt of prompts) answers.push((await generate(engine, turn(prompt))).choices[0]!.tokens);
      const goOn = async (i: number) =>
        (await generate(engine, turn([...prompts[i]!, ...answers[i]!, 5]))).usage.cachedTokens;
      expect(await goOn(13)).toBe(448);
      expect(await goOn(0)).toBeLessThanOrEqual(128);
      expect((await engine.stats()).cache.evictedBlocks).toBeGreaterThan(0);
    });
  });
});

describe('a session', () => {
  const prompts = () => [0, 1, 2, 3].map((i) => encode(long[i]!.prompt).slice(0, 150 + 70 * i));
  const turn = (prompt: ArrayLike<number>, over = {}) =>
    requestFor(prompt, { maxTokens: 40, ignoreEos: true, logprobs: 1, session: 'one', ...over });

  /** What one prompt of all before gives, turn by turn. */
  const expected = (engine: Engine) =>
    prompts().reduce<Promise<{ tokens: number[]; answers: Generated['choices'][] }>>(
      async (before, prompt) => {
        const { tokens, answers } = await before;
        const request = turn([...tokens, ...prompt]);
        const { session: _, ...whole } = request;
        const { choices } = await generate(engine, whole);
        return {
          tokens: [...request.prompt, ...choices[0]!.tokens],
          answers: [...answers, choices],
        };
      },
      Promise.resolve({ tokens: [], answers: [] }),
    );

  it('has the bits of one prompt that holds all before, read once, swapped or read anew', async () => {
    const { answers } = await expected(plain);
    for (const swapMemory of [1 << 30, 0]) {
      await withPack({ swapMemory }, async (engine) => {
        let computed = 0;
        for (const [index, prompt] of prompts().entries()) {
          const { choices, usage } = await generate(engine, turn(prompt));
          expect(choices).toEqual(answers[index]);
          expect(usage.cachedTokens).toBe(swapMemory > 0 ? computed : 0);
          computed = usage.promptTokens + 39;
        }
        engine.endSession('one');
        await expectNothingHeld(engine);
      });
    }
  });

  it('takes one request at a time, and has one choice', async () => {
    await withPack({}, async (engine) => {
      const first = generate(engine, turn(prompts()[0]!, { maxTokens: 200 }));
      await expect(generate(engine, turn([1]))).rejects.toThrow(/session one is running already/);
      await first;
      await expect(generate(engine, turn([1], { n: 2 }))).rejects.toThrow(/n must be 1/);
      await expect(generate(engine, turn([1], { promptLogprobs: true }))).rejects.toThrow(/cannot be scored/);
      await generate(engine, turn([1], { goesOn: true }));
      // As after a restart of the engine.
      const lost = turn([1], { session: 'two', goesOn: true });
      await expect(generate(engine, lost)).rejects.toThrow(/session is lost/);
    });
    await withPack({ kv: 'exact' }, async (engine) => {
      await expect(generate(engine, turn([1]))).rejects.toThrow(/needs a server that runs with --kv pack/);
    });
  });

  it('goes on without a prompt behind an answer that is cancelled while a step runs', async () => {
    const prompt = prompts()[0]!;
    const { session: _, ...whole } = turn(prompt);
    const answer = (await answerOf(plain, whole))[0]!.tokens;
    await withPack({}, async (engine) => {
      for (let until = 1; until <= 12; until++) {
        const session = `session-${until}`;
        const request = turn(prompt, { session, maxTokens: 1000 });
        await new Promise<void>((resolve) => {
          void generate(engine, request, (count) => {
            if (count < until) return;
            engine.cancel(request.id);
            resolve();
          });
        });
        const { choices, usage } = await generate(engine, turn([], { session, goesOn: true, maxTokens: 8 }));
        const begun = usage.promptTokens - prompt.length;
        expect(begun).toBeGreaterThanOrEqual(until);
        expect(choices[0]!.tokens, `behind ${begun}`).toEqual(answer.slice(begun, begun + 8));
        engine.endSession(session);
      }
    });
  });

  it('leaks nothing when requests are cancelled, and sessions ended, at any point', async () => {
    await withPack({ kvMemory: 30 * demoBlockBytes.bf16 }, async (engine) => {
      const runs = Array.from({ length: 12 }, async (_, i) => {
        const session = `session-${i}`;
        for (let at = 0; at < 4; at++) {
          const request = turn(prompts()[at]!, { session, maxTokens: 60 });
          const until = (i * 13 + at * 29) % 70;
          await new Promise<void>((resolve) => {
            void generate(engine, request, (count) => {
              if (count < until) return;
              engine.cancel(request.id);
              if (i % 3 === 0 && at === 2) engine.endSession(session);
              resolve();
            }).then(
              () => resolve(),
              () => resolve(),
            );
          });
        }
        engine.endSession(session);
      });
      await Promise.all(runs);
      await expectNothingHeld(engine);
    });
  });
});

describe('memory for partitions', () => {
  it('is by default what as many sequences take as may run, however many layers there are', async () => {
    for (const maxSequences of [1, 3]) {
      const engine = await openEngineHere({ kv: 'pack', maxSequences, ...small });
      expect(engine.info.kvBytes).toBeGreaterThan(
        maxSequences * (5 * demoBlockBytes.bf16 + 6 * demoBlockBytes.int4),
      );
      expect(engine.info.kvBytes).toBeLessThan((7 * maxSequences + 16) * demoBlockBytes.bf16);
      await engine.close();
    }
  });
});

describe('partitions that cannot be', () => {
  it('are refused by name', async () => {
    await expect(openPack({ packTopPages: 62 })).rejects.toThrow(
      /would see up to 2144 tokens .* trained on 2048\. Lower --pack-top-pages/,
    );
    await expect(openPack({ packMidTokens: 100_000, kvMemory: 32 << 20 })).rejects.toThrow(
      /Lower --pack-mid-tokens/,
    );
    await expect(openPack({ kvPressure: 'int8' })).rejects.toThrow(
      /--kv-pressure int8 does nothing under --kv pack/,
    );
  });
});

describe('an endless session', () => {
  const folder = new Folder();
  const shape = { ...llama1b, layers: 2, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, ffn: 96, vocab: 600 };
  beforeAll(() => {
    makeRandomModel({ folder: folder.at('model'), shape, seed: 5, gguf: [], onProgress: () => {} });
  });
  afterAll(() => folder.close());

  it('holds no more bytes at 20,000 tokens than its partitions', async () => {
    const engine = await openPack({ maxSequences: 1, kvMemory: 16 << 20 }, folder.at('model'));
    const prompt = Int32Array.from({ length: 19_000 }, (_, i) => (i * 7919 + (i >> 5)) % 600);
    const held: number[] = [];
    const request = requestFor(prompt, { maxTokens: 1000, ignoreEos: true });
    let pending = Promise.resolve();
    let next = 0;
    const { usage } = await generate(engine, request, (count) => {
      if (count < next) return;
      next = count + 50;
      pending = pending.then(async () => {
        const { kvHeldBytes } = await engine.stats();
        held.push(kvHeldBytes.bf16 + kvHeldBytes.int4);
      });
    });
    await pending;
    const page = (bytes: number) => shape.layers * bytes;
    // 32 tokens of one head of 32 channels, K and V; packed with two scales a token and a channel.
    const exact = page(2 * 32 * 32 * 2);
    const packed = page(2 * 32 * 16 + 4 * (32 + 32));
    const most = (Math.ceil((32 + 64 + 64) / 32) + 1) * exact + ((128 + 64) / 32) * packed;
    expect(Math.max(...held)).toBeLessThanOrEqual(most);
    expect(Math.max(...held)).toBeGreaterThan(most / 2);
    expect(usage.completionTokens).toBe(1000);
    expect((await engine.stats()).kvDroppedTokens).toBeGreaterThan(19_500);
    await engine.close();
  });
});
