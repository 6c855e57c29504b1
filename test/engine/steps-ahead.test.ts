import { describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import type { Device } from '../../engine/device/device.js';
import { LocalEngine } from '../../engine/engine.js';
import { vocabularyBytes } from '../../engine/grammar/vocabulary-bytes.js';
import { compileGrammar, type GenerateRequest } from '../../engine/index.js';
import { PackingRule } from '../../engine/kv/packing-rule.js';
import { uniform } from '../../engine/kv/page-classes.js';
import type { Tokenizer } from '../../engine/model/text.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { openDevice } from '../../engine/open-model-device.js';
import { openPolicy, policyNames } from '../../engine/scheduler/open-policy.js';
import { ChunkedPolicy } from '../../engine/scheduler/policies/chunked.js';
import type { LanePolicy } from '../../engine/scheduler/policy.js';
import { splitsOf } from '../../engine/scheduler/splits.js';
import type { EngineInfo } from '../../engine/types.js';
import { demoFolder, goldenCases } from '../support/demo.js';
import { generate, requestFor } from '../support/generate.js';
import { expectedAnswer } from '../support/hashing-answers.js';
import { HashingDevice } from '../support/hashing-device.js';
import { expectNothingHeld } from '../support/nothing-held.js';
import { randomOf, simplePredictor } from './scheduler/history.js';

interface Chosen {
  readonly device: Device;
  readonly tokenizer: Tokenizer;
  readonly policy: LanePolicy;
  readonly plansAhead: boolean;
  readonly contextLength: number;
  readonly eosTokenIds?: readonly number[];
  readonly prefixCache?: boolean;
  readonly swapBytes?: number;
}

function openOn({
  device,
  tokenizer,
  policy,
  contextLength,
  eosTokenIds = [],
  ...rest
}: Chosen): LocalEngine {
  const info = { spec: device.info.spec, contextLength, eosTokenIds } as unknown as EngineInfo;
  const scheduling = { policy, stepSeconds: () => 0.01, constantsOrigin: 'a test' };
  return new LocalEngine({
    device,
    tokenizer,
    info,
    prefixCache: true,
    swapBytes: 0,
    ...rest,
    ...scheduling,
    reopenScheduling: () => scheduling,
    prefillOrder: 'spf',
    reopenSeconds: 1,
    maxQueue: 1000,
    queueTimeoutMs: 0,
    now: () => performance.now(),
  });
}

const histories = Number(process.env.HISTORIES ?? 30);
/** Tokens have no text there. */
const noText = {
  vocabSize: 997,
  stream: () => ({ push: () => '', end: () => '' }),
} as unknown as Tokenizer;
/** Nothing is ever packed, nor rounded. */
const exact = new PackingRule(uniform('int4'), 1 << 20, 32, 'bf16');

/**
 * Requests that stop, fork, pause, are cancelled and run out of memory, on a device that goes on by itself for as long as
 * it likes before the engine hears of it. Returns how many steps began so.
 */
async function runHistory(seed: number): Promise<number> {
  const below = randomOf(seed);
  const device = new HashingDevice(10 + below(30), 1 + below(6), []);
  const contextLength = device.kv.totalBlocks * 32;
  const policy = openPolicy(
    policyNames[below(policyNames.length)]!,
    { decodeSlack: 1.2, prefillShare: 0.5, budgetTokens: 96 },
    splitsOf(2, 1),
    simplePredictor(2),
  );
  const prefixCache = below(3) > 0;
  const swapBytes = below(3) * 200_000;
  const engine = openOn({
    device,
    tokenizer: noText,
    policy,
    plansAhead: true,
    contextLength,
    prefixCache,
    swapBytes,
  });
  const answers: { request: GenerateRequest; choices: number[][]; usage: number; isCancelled: boolean }[] =
    [];
  const ask = (): void => {
    const length = Math.min(1 + below(150), contextLength - 2);
    const prompt = Array.from({ length }, () => below(997));
    const request = requestFor(prompt, {
      n: below(4) === 0 ? 3 : 1,
      maxTokens: 1 + below(Math.min(100, contextLength - length)),
      stopTokenIds: below(2) === 0 ? Array.from({ length: 12 }, () => below(997)) : [],
    });
    const answer = {
      request,
      choices: Array.from({ length: request.n }, (): number[] => []),
      usage: Number.NaN,
      isCancelled: false,
    };
    answers.push(answer);
    const cancelAt = below(5) === 0 ? below(60) : Number.POSITIVE_INFINITY;
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') answer.choices[event.choice]!.push(...event.tokens);
        if (event.type === 'error') throw event.error;
        if (event.type === 'done') answer.usage = event.usage.completionTokens;
      }
      if (answer.choices.flat().length < cancelAt || answer.isCancelled) return;
      answer.isCancelled = true;
      engine.cancel(request.id);
    });
  };
  let decoded = 0;
  const endSome = async (): Promise<void> => {
    // A step that begins as another ends may itself end before the engine hears of either.
    for (let ends = 1 + below(3); ends > 0; ends--) {
      device.pending.splice(below(device.pending.length), 1)[0]?.();
    }
    await new Promise((resolve) => setImmediate(resolve));
  };
  for (let event = 0; event < 8; event++) {
    ask();
    const { id } = answers[below(answers.length)]!.request;
    if (below(3) === 0) engine.pause(id);
    for (let ends = below(40); ends > 0; ends--) await endSome();
    engine.resume(id);
  }
  for (let idle = 0; idle < 20; idle = device.pending.length === 0 ? idle + 1 : 0) await endSome();
  for (const { request, choices, usage, isCancelled } of answers) {
    const whole = expectedAnswer([...request.prompt], request.maxTokens, exact);
    const stop = whole.findIndex((token) => request.stopTokenIds.includes(token));
    const expected = stop < 0 ? whole : whole.slice(0, stop + 1);
    for (const tokens of choices) {
      expect(tokens).toEqual(isCancelled ? expected.slice(0, tokens.length) : expected);
      decoded += tokens.length;
    }
    if (!isCancelled) expect(usage).toBe(choices.flat().length);
  }
  expect((await engine.stats()).generatedTokens).toBe(decoded);
  await expectNothingHeld(engine);
  expect(device.heldBytes).toBe((await engine.stats()).cache.blocks * device.kv.blockBytes);
  await engine.close();
  return device.followed;
}

describe('decode steps that are planned ahead', () => {
  it('bring every sequence the tokens that it has alone, and leave nothing behind, in random histories', async () => {
    let followed = 0;
    for (let seed = 0; seed < histories; seed++) {
      followed += await runHistory(seed).catch((cause) => {
        throw new Error(`in the history of seed ${seed}: ${(cause as Error).message}`, { cause });
      });
    }
    expect(followed).toBeGreaterThan(20 * histories);
  });

  it('are one too many where nobody could know of the end, and that one shows nowhere', async () => {
    const prompt = [5, 6, 7];
    const answer = expectedAnswer(prompt, 40, exact);
    for (const [stopTokenIds, seen, sampled] of [
      [[answer[20]!], 21, 22],
      [[], 40, 40],
    ] as const) {
      const device = new HashingDevice(8, 2, []);
      const policy = new ChunkedPolicy(96);
      const engine = openOn({ device, tokenizer: noText, policy, plansAhead: true, contextLength: 256 });
      let isDone = false;
      const asked = generate(engine, requestFor(prompt, { maxTokens: 40, stopTokenIds })).finally(() => {
        isDone = true;
      });
      while (!isDone) {
        device.pending.shift()?.();
        await new Promise((resolve) => setImmediate(resolve));
      }
      const { choices, usage } = await asked;
      expect(choices[0]!.tokens).toEqual(answer.slice(0, seen));
      expect(usage.completionTokens).toBe(seen);
      for (const end of device.pending.splice(0)) end();
      await new Promise((resolve) => setImmediate(resolve));
      expect(device.sampled).toBe(sampled);
      expect(device.followed).toBe(sampled - 2);
      await expectNothingHeld(engine);
      await engine.close();
    }
  });

  describe('on the demo model', () => {
    const prompts = goldenCases().map(({ prompt_ids }) => prompt_ids.slice(0, 48));
    const sampled = (seed: bigint, over: object = {}) => ({
      ...requestFor([0]).sampling,
      temperature: 0.9,
      seed,
      ...over,
    });
    const requests = (): GenerateRequest[] => [
      requestFor(prompts[0]!, { maxTokens: 80 }),
      requestFor(prompts[1]!, { maxTokens: 70, ignoreEos: true, n: 3, logprobs: 2, sampling: sampled(3n) }),
      requestFor(prompts[2]!, { maxTokens: 60, ignoreEos: true, stop: ['he', 'a '], sampling: sampled(4n) }),
      requestFor(prompts[3]!, {
        maxTokens: 90,
        ignoreEos: true,
        sampling: sampled(5n, { frequencyPenalty: 0.7, repetitionPenalty: 1.1 }),
      }),
      // Behind its end the grammar's place would let a digit follow.
      requestFor(prompts[4]!, {
        n: 4,
        maxTokens: 40,
        grammar: compileGrammar({ type: 'gbnf', text: 'root ::= [0-9] [0-9]? [0-9]? [0-9]?' }),
        sampling: sampled(6n),
      }),
      requestFor(prompts[0]!.slice(1), { maxTokens: 1 }),
    ];

    async function open(plansAhead: boolean, kvMemory: string) {
      const settings = Settings.parse({ model: { path: demoFolder }, engine: { kvMemory } });
      const { device } = await openDevice(settings);
      const tokenizer = await openTokenizer(demoFolder);
      const eosTokenIds = [tokenizer.encode('<|im_end|>', { special: true, addBos: false })[0]!];
      device.setVocabulary(vocabularyBytes(tokenizer, eosTokenIds));
      let follows = 0;
      const decode = {
        ...device.decode,
        follow: (slots: Int32Array) => {
          follows++;
          return device.decode.follow!(slots);
        },
      };
      const contextLength = Math.min(2048, device.kv.totalBlocks * 32);
      const engine = openOn({
        device: { ...device, decode },
        tokenizer,
        policy: new ChunkedPolicy(512),
        plansAhead,
        contextLength,
        eosTokenIds,
        swapBytes: 1 << 20,
      });
      return { engine, follows: () => follows };
    }

    async function answersOf(plansAhead: boolean, kvMemory: string) {
      const { engine, follows } = await open(plansAhead, kvMemory);
      const answers = await Promise.all(requests().map((request) => generate(engine, request)));
      const { preemptions } = await engine.stats();
      await expectNothingHeld(engine);
      await engine.close();
      return {
        preemptions,
        follows: follows(),
        answers: answers.map(({ choices, usage: { promptTokens, completionTokens } }) => ({
          choices,
          promptTokens,
          completionTokens,
        })),
      };
    }

    it('have the bits of steps that are waited for: stops, penalties, choices, a grammar', async () => {
      const waited = await answersOf(false, '64MiB');
      const ahead = await answersOf(true, '64MiB');
      expect(waited.follows).toBe(0);
      expect(ahead.follows).toBeGreaterThan(20);
      expect(ahead.answers).toEqual(waited.answers);
      const reasons = ahead.answers.map(({ choices }) => choices.map(({ reason }) => reason));
      expect(new Set(reasons.flat())).toEqual(new Set(['stop', 'length']));
      expect(reasons[4]).toEqual(['stop', 'stop', 'stop', 'stop']);

      // Where there is no room, somebody gives way and comes back.
      const tight = await answersOf(true, '2MiB');
      expect(tight.preemptions).toBeGreaterThan(0);
      expect(tight.answers).toEqual(waited.answers);
    });

    it('end when they are cancelled, and others go on', async () => {
      const { engine } = await open(true, '64MiB');
      const golden = goldenCases()[0]!;
      const kept = generate(engine, requestFor(golden.prompt_ids, { maxTokens: 64 }));
      await Promise.all(
        prompts.map((prompt, index) => {
          const request = requestFor(prompt, { maxTokens: 500, ignoreEos: true });
          return new Promise<void>((resolve, reject) => {
            generate(engine, request, (count) => {
              if (count < 3 + 2 * index) return;
              engine.cancel(request.id);
              resolve();
            }).catch(reject);
          });
        }),
      );
      expect((await kept).choices[0]!.tokens).toEqual(golden.greedy_ids);
      await expectNothingHeld(engine);
      await engine.close();
    });
  });
});
