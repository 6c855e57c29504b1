import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import { type Engine, openEngine } from '../../engine/index.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { policyNames } from '../../engine/scheduler/open-policy.js';
import { demoFolder, goldenCases, retrievalCases } from '../support/demo.js';
import { openEngineHere } from '../support/engine-here.js';
import { generate, requestFor } from '../support/generate.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { oneCore } from '../support/one-core.js';

type EngineOver = Partial<Settings['engine']>;

function open(engine: EngineOver = {}, model: Partial<Settings['model']> = {}): Promise<Engine> {
  return openEngine(
    Settings.parse({ model: { path: demoFolder, ...model }, engine: { kvMemory: '256MiB', ...engine } }),
  );
}

const golden = goldenCases();
const long = retrievalCases().filter(({ length }) => length >= 512);

describe('engine on the demo model', () => {
  let engine: Engine;
  let encode: (text: string) => Int32Array;
  beforeAll(async () => {
    engine = await open();
    const tokenizer = await openTokenizer(demoFolder);
    encode = (text) => tokenizer.encode(text, { special: true, addBos: false });
  });
  afterAll(() => engine.close());

  it('answers as the independent implementation does', async () => {
    for (const { prompt_ids, greedy_ids, greedy_text } of golden) {
      const { choices, usage } = await generate(engine, requestFor(prompt_ids, { maxTokens: 64 }));
      expect(choices[0]!.tokens).toEqual(greedy_ids);
      expect(choices[0]!.text).toBe(greedy_text);
      expect(choices[0]!.reason).toBe('stop');
      expect(usage).toMatchObject({ promptTokens: prompt_ids.length, completionTokens: greedy_ids.length });
    }
  });

  it('gives a request alone and in a crowd the same bits: other lengths, cancelled neighbours, cache hits, both lanes', async () => {
    const subject = () =>
      requestFor(encode(long[0]!.prompt), {
        maxTokens: 24,
        ignoreEos: true,
        logprobs: 3,
        sampling: { ...requestFor([0]).sampling, temperature: 0.9, topP: 0.95, seed: 42n },
      });
    const fresh = await open({ prefixCache: false });
    const alone = await generate(fresh, subject());
    await fresh.close();

    const crowd = Array.from({ length: 32 }, (_, i) => {
      const prompt = i % 4 === 0 ? long[0]!.prompt : long[i % long.length]!.prompt.slice(0, 40 + 97 * i);
      const request = requestFor(encode(prompt), { maxTokens: 8 + 3 * i, ignoreEos: true });
      if (i % 5 !== 2) return generate(engine, request);
      return new Promise<void>((resolve, reject) => {
        generate(engine, request, (count) => {
          if (count < 3) return;
          engine.cancel(request.id);
          resolve();
        }).catch(reject);
      });
    });
    const among = await Promise.all([generate(engine, subject()), generate(engine, subject())]);
    await Promise.all(crowd);
    const again = await generate(engine, subject());
    expect(again.usage.cachedTokens).toBeGreaterThan(0);
    for (const result of [...among, again]) {
      expect(result.choices[0]!.tokens).toEqual(alone.choices[0]!.tokens);
      expect(result.choices[0]!.logprobs).toEqual(alone.choices[0]!.logprobs);
    }
    await expectNothingHeld(engine);
  });

  it('ends at stop strings across token borders, and shows nothing of them', async () => {
    const prompt = encode('<|bos|><|im_start|>user\nCount to 10.<|im_end|>\n<|im_start|>assistant\n');
    const whole = (await generate(engine, requestFor(prompt, { maxTokens: 64 }))).choices[0]!.text;
    expect(whole).toBe('1, 2, 3, 4, 5, 6, 7, 8, 9, 10.');
    for (const stop of [', 5', '4, 5, 6', '10', '1', ' 9, 10.']) {
      const { choices } = await generate(
        engine,
        requestFor(prompt, { maxTokens: 64, stop: ['never', stop] }),
      );
      expect(choices[0]).toMatchObject({
        text: whole.slice(0, whole.indexOf(stop)),
        reason: 'stop',
        stoppedBy: stop,
      });
    }
  });

  it('generates n choices from one prompt, each with its own seed, as n requests would', async () => {
    // Little is certain after so little.
    const prompt = encode('<|bos|><|im_start|>user\nTell me');
    const sampling = { ...requestFor([0]).sampling, temperature: 2, seed: 7n };
    const over = { n: 4, maxTokens: 12, ignoreEos: true, sampling };
    const { choices, usage } = await generate(engine, requestFor(prompt, over));
    expect(usage.completionTokens).toBe(48);
    expect(new Set(choices.map(({ tokens }) => tokens.join())).size).toBeGreaterThan(1);
    const repeated = await generate(engine, requestFor(prompt, over));
    expect(repeated.choices.map(({ tokens }) => tokens)).toEqual(choices.map(({ tokens }) => tokens));
    const first = await generate(engine, requestFor(prompt, { ...over, n: 1 }));
    expect(first.choices[0]!.tokens).toEqual(choices[0]!.tokens);
    await expectNothingHeld(engine);
  });

  it('scores a prompt: the sum of what it would have said', async () => {
    const { prompt_ids, greedy_ids } = golden[0]!;
    const tokens = [...prompt_ids, ...greedy_ids];
    const { prompt, choices, usage } = await generate(
      engine,
      requestFor(tokens, { maxTokens: 0, promptLogprobs: true, logprobs: 1 }),
    );
    expect(choices[0]!.tokens).toEqual([]);
    expect(usage.completionTokens).toBe(0);
    expect(prompt!.map(({ token }) => token)).toEqual(tokens);
    expect(prompt![0]!.logprob).toBeNaN();
    // Greedy tokens are each the likeliest at their place.
    for (const { token, logprob, top } of prompt!.slice(prompt_ids.length)) {
      expect(top[0]!.token).toBe(token);
      expect(top[0]!.logprob).toBe(logprob);
    }
  });

  it('honours min_tokens, stop token ids and logit bias', async () => {
    const { prompt_ids, greedy_ids } = golden[0]!;
    const longer = await generate(engine, requestFor(prompt_ids, { minTokens: 20, maxTokens: 25 }));
    expect(longer.choices[0]!.tokens.length).toBeGreaterThanOrEqual(20);
    const stopped = await generate(engine, requestFor(prompt_ids, { stopTokenIds: [greedy_ids[2]!] }));
    expect(stopped.choices[0]!.tokens).toEqual(greedy_ids.slice(0, 3));
    const biased = await generate(
      engine,
      requestFor(prompt_ids, {
        maxTokens: 3,
        sampling: { ...requestFor([0]).sampling, logitBias: new Map([[100, 100]]) },
      }),
    );
    expect(biased.choices[0]!.tokens).toEqual([100, 100, 100]);
  });

  it('refuses what cannot run, with a code and the numbers', async () => {
    await expect(generate(engine, requestFor([]))).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(generate(engine, requestFor([1, 99_999]))).rejects.toThrow(/token 99999/);
    await expect(generate(engine, requestFor([1, 2], { maxTokens: 4000 }))).rejects.toMatchObject({
      code: 'context_length_exceeded',
      message: expect.stringContaining('4002'),
    });
  });

  it('ends a request at its deadline, and keeps a paused one until it goes on', async () => {
    const late = requestFor(golden[0]!.prompt_ids, { maxTokens: 1500, ignoreEos: true, deadlineMs: 30 });
    await expect(generate(engine, late)).rejects.toMatchObject({ code: 'deadline_exceeded' });
    const expected = await generate(
      engine,
      requestFor(golden[0]!.prompt_ids, { maxTokens: 40, ignoreEos: true }),
    );
    const slow = requestFor(golden[0]!.prompt_ids, { maxTokens: 40, ignoreEos: true });
    let paused = false;
    const result = await generate(engine, slow, (count) => {
      if (paused || count < 5) return;
      paused = true;
      engine.pause(slow.id);
      // Another request runs to its end meanwhile.
      void generate(engine, requestFor(golden[1]!.prompt_ids)).then(() => engine.resume(slow.id));
    });
    expect(paused).toBe(true);
    expect(result.choices[0]!.tokens).toEqual(expected.choices[0]!.tokens);
    await expectNothingHeld(engine);
  });

  it('leaks nothing when requests are cancelled at any point', async () => {
    const pending = Array.from({ length: 150 }, (_, i) => {
      const request = requestFor(encode(long[i % 12]!.prompt.slice(0, 30 * (i + 1))), {
        n: 1 + (i % 3),
        maxTokens: 50,
        ignoreEos: true,
      });
      return new Promise<void>((resolve) => {
        const at = (i * 7) % 40;
        const cancel = () => {
          engine.cancel(request.id);
          resolve();
        };
        if (at < 5) {
          void generate(engine, request).catch(() => {});
          setImmediate(cancel);
        } else {
          void generate(engine, request, (count) => count >= at && cancel()).then(() => resolve());
        }
      });
    });
    await Promise.all(pending);
    // A request after them all runs when the last cancelled step is over.
    await generate(engine, requestFor(golden[0]!.prompt_ids));
    await expectNothingHeld(engine);
  });
});

describe('engine with little memory', () => {
  const requests = () =>
    golden.flatMap(({ prompt_ids }) =>
      [40, 90].map((maxTokens) => requestFor(prompt_ids.slice(0, 60), { maxTokens, ignoreEos: true })),
    );
  const answers = async (engine: Engine): Promise<number[][]> => {
    const results = await Promise.all(requests().map((request) => generate(engine, request)));
    return results.map(({ choices }) => choices[0]!.tokens);
  };
  // Room for two or three of the ten at their full length.
  const tight = { kvMemory: 12 * 196_608 };
  let expected: number[][];
  beforeAll(async () => {
    const roomy = await openEngineHere({ kvMemory: 256 << 20, prefixCache: false });
    expected = await answers(roomy);
    await roomy.close();
  });

  it.each([
    { swapMemory: 0, prefixCache: true, cores: 1 },
    { swapMemory: 0, prefixCache: false, cores: undefined },
    { swapMemory: 1 << 30, prefixCache: true, cores: undefined },
    // Room for some of those that give way.
    { swapMemory: 6 * 196_608, prefixCache: false, cores: 1 },
  ])('pre-empts rather than fails, and gives the same tokens under every scheduler: %o', async (settings) => {
    const engine = await openEngineHere({ ...tight, ...settings });
    for (const scheduler of policyNames) {
      await engine.setPolicy({ scheduler });
      const before = await engine.stats();
      expect(await answers(engine), scheduler).toEqual(expected);
      const { preemptions, swapsOut } = await engine.stats();
      expect(preemptions, scheduler).toBeGreaterThan(before.preemptions);
      expect(swapsOut > before.swapsOut, scheduler).toBe(settings.swapMemory > 0);
      await expectNothingHeld(engine);
    }
    await engine.close();
  });

  it('gives back what cancelled requests have in host memory', async () => {
    const engine = await open(tight);
    const running = requests();
    const outcomes = running.map((request) =>
      generate(engine, request, (count) => {
        if (count === 20) for (const { id } of running.slice(1)) engine.cancel(id);
      }),
    );
    expect((await outcomes[0]!).choices[0]!.tokens).toEqual(expected[0]);
    await generate(engine, requestFor(golden[0]!.prompt_ids));
    await expectNothingHeld(engine);
    await engine.close();
  });

  it('closes in the middle of copies', async () => {
    for (let count = 10; count < 40; count += 6) {
      const engine = await open({ ...tight, ...oneCore });
      const outcomes = requests().map((request) =>
        generate(engine, request, (generated) => {
          if (generated >= count) void engine.close();
        }),
      );
      // Each is told: some may have ended before, but not all of them.
      const settled = await Promise.allSettled(outcomes);
      expect(settled.map(({ status }) => status)).toContain('rejected');
    }
  });

  it('refuses beyond the queue with a time to retry, and what is over the context that fits', async () => {
    const engine = await open({ ...oneCore, maxSequences: 1, maxQueue: 2, kvMemory: 8 * 196_608 });
    expect(engine.info.contextLength).toBe(256);
    const ask = () =>
      generate(engine, requestFor(golden[0]!.prompt_ids, { maxTokens: 100, ignoreEos: true }));
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, ask));
    const refused = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(refused.length).toBeGreaterThan(0);
    expect(outcomes.length - refused.length).toBeGreaterThanOrEqual(2);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: 'queue_full', retryAfterSeconds: expect.any(Number) });
    await engine.close();
  });

  it('serves on one core, under every scheduler', async () => {
    for (const scheduler of policyNames) {
      const engine = await openEngineHere({ kvMemory: 256 << 20, scheduler });
      const results = await Promise.all(
        golden.map(({ prompt_ids }) => generate(engine, requestFor(prompt_ids, { maxTokens: 64 }))),
      );
      expect(results.map(({ choices }) => choices[0]!.tokens)).toEqual(
        golden.map(({ greedy_ids }) => greedy_ids),
      );
      await engine.close();
    }
  });
});

describe('schedulers', () => {
  const prompts = () => long.slice(0, 6).map(({ prompt }) => prompt);

  it('give the same bits, in whatever steps they read and write', async () => {
    const tokenizer = await openTokenizer(demoFolder);
    // Of several steps each, and of different lengths, so that orders differ.
    const parts = prompts().map((prompt, i) =>
      tokenizer.encode(prompt, { special: true, addBos: false }).slice(0, 330 - 40 * i),
    );
    const answers: unknown[] = [];
    for (const prefillOrder of ['spf', 'fcfs'] as const) {
      // Each reads all of it anew.
      const settings = { prefillOrder, maxStepTokens: 64, prefixCache: false, cores: undefined };
      const engine = await openEngineHere({ kvMemory: 256 << 20, ...settings });
      for (const scheduler of policyNames) {
        await engine.setPolicy({ scheduler });
        const results = await Promise.all(
          parts.map((part, i) =>
            generate(engine, requestFor(part, { maxTokens: 10 + 5 * i, ignoreEos: true, logprobs: 1 })),
          ),
        );
        answers.push(results.map(({ choices }) => choices));
        await expectNothingHeld(engine);
      }
      await engine.close();
    }
    for (const answer of answers) expect(answer).toEqual(answers[0]);
  });

  it('explain how the device is shared', async () => {
    const decisions: unknown[] = [];
    const engine = await openEngine(
      Settings.parse({ model: { path: demoFolder }, engine: { kvMemory: '256MiB', maxStepTokens: 64 } }),
      { onDecision: (decision) => decisions.push(decision) },
    );
    expect(await engine.explain()).toMatchObject({
      policy: 'nexus',
      prefillOrder: 'spf',
      running: 0,
      waiting: 0,
    });
    let reading: Promise<unknown> | undefined;
    await generate(engine, requestFor(golden[0]!.prompt_ids, { maxTokens: 1500, ignoreEos: true }), () => {
      reading ??= generate(engine, requestFor(Array.from({ length: 600 }, (_, i) => 100 + i)));
    });
    await reading;
    const { decision } = await engine.explain();
    expect(decision!.candidates).toContainEqual(decision!.chosen);
    for (const { prefillSeconds, decodeSeconds, chunkTokens } of decision!.candidates) {
      expect(prefillSeconds).toBeGreaterThan(0);
      expect(decodeSeconds).toBeGreaterThan(0);
      expect(chunkTokens).toBeGreaterThan(0);
    }
    expect(decisions.length).toBeGreaterThan(0);
    expect(decisions.at(-1)).toEqual(decision);
    await engine.close();
  });
});

describe('losing the thread', () => {
  it('tells every request, and says that it is lost', async () => {
    const engine = await open(oneCore);
    const running = generate(engine, requestFor(golden[0]!.prompt_ids, { maxTokens: 1900, ignoreEos: true }));
    const outcome = expect(running).rejects.toMatchObject({ code: 'engine_failed' });
    // Not a request at all: the engine trusts the front end, and its thread dies of this one.
    engine.submit({ id: 'broken' } as never, () => {});
    await outcome;
    expect((await engine.lost).code).toBe('engine_failed');
    await expect(generate(engine, requestFor([1]))).rejects.toMatchObject({ code: 'engine_failed' });
    await expect(engine.stats()).rejects.toMatchObject({ code: 'engine_failed' });
    await engine.close();
  });
});

describe('opening and closing', () => {
  it('names the folder that is not a model', async () => {
    await expect(open({}, { path: '/nowhere/at/all' })).rejects.toMatchObject({
      code: 'model_invalid',
      message: expect.stringContaining('/nowhere/at/all'),
    });
  });

  it('drains: refuses new work, lets running work finish', async () => {
    const engine = await open(oneCore);
    const running = generate(engine, requestFor(golden[0]!.prompt_ids, { maxTokens: 200, ignoreEos: true }));
    const drained = engine.drain(60_000);
    await expect(generate(engine, requestFor([1]))).rejects.toMatchObject({ code: 'shutting_down' });
    expect((await running).choices[0]!.tokens.length).toBe(200);
    await drained;
    await engine.close();
    await expect(generate(engine, requestFor([1]))).rejects.toMatchObject({ code: 'engine_failed' });
  });

  it('cancels what does not finish within the grace period', async () => {
    const engine = await open(oneCore);
    const running = generate(engine, requestFor(golden[0]!.prompt_ids, { maxTokens: 1900, ignoreEos: true }));
    const outcome = expect(running).rejects.toMatchObject({ code: 'shutting_down' });
    await engine.drain(20);
    await outcome;
    await engine.close();
  });
});
