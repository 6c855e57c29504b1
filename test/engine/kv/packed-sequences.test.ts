import { describe, expect, it } from 'vitest';
import { LocalEngine } from '../../../engine/engine.js';
import { PackingRule } from '../../../engine/kv/packing-rule.js';
import { packingRoom } from '../../../engine/kv/sequence-packing.js';
import type { Tokenizer } from '../../../engine/model/text.js';
import { openPolicy, type PolicyName, policyNames } from '../../../engine/scheduler/open-policy.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import type { EngineInfo } from '../../../engine/types.js';
import { requestFor } from '../../support/generate.js';
import { expectedAnswer, HashingDevice } from '../../support/hashing-device.js';
import { randomOf, simplePredictor } from '../scheduler/history.js';

const histories = Number(process.env.HISTORIES ?? 60);

/** Tokens have no text here. */
const tokenizer = {
  vocabSize: 997,
  stream: () => ({ push: () => '', end: () => '' }),
} as unknown as Tokenizer;

interface Asked {
  readonly id: string;
  readonly prompt: number[];
  readonly maxTokens: number;
  readonly choices: number[][];
  isCancelled: boolean;
  isDone: boolean;
}

/**
 * Requests that begin alike, fork, pause, are cancelled and run out of memory; steps, copies and conversions end in any
 * order.
 */
async function runHistory(seed: number): Promise<void> {
  const below = randomOf(seed);
  const rule = new PackingRule(below(2) === 0 ? 'int4' : 'int2', 32 * (1 + below(3)), 32);
  const device = new HashingDevice(14 + below(30), 1 + below(6), rule.precision);
  const prefixCache = below(3) > 0;
  const contextLength = (device.kv.totalBlocks - packingRoom(device.kv, rule)) * 32;
  const policy = policyNames[below(policyNames.length)]!;
  const open = (name: PolicyName) =>
    openPolicy(
      name,
      { decodeSlack: 1.2, prefillShare: 0.5, budgetTokens: 96 },
      splitsOf(2, 1),
      simplePredictor(2),
    );
  let now = 0;
  const engine = new LocalEngine({
    device,
    tokenizer,
    info: { spec: device.info.spec, contextLength, eosTokenIds: [] as number[] } as unknown as EngineInfo,
    prefixCache,
    packing: rule,
    swapBytes: below(3) * 20_000,
    policy: open(policy),
    reopenPolicy: ({ scheduler = policy }) => open(scheduler),
    constantsOrigin: 'a test',
    prefillOrder: below(2) === 0 ? 'spf' : 'fcfs',
    reopenSeconds: 1,
    maxQueue: 1000,
    queueTimeoutMs: 0,
    now: () => now++,
  });
  const endOne = async (): Promise<void> => {
    device.pending.splice(below(device.pending.length), 1)[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const asked: Asked[] = [];
  const ask = (): void => {
    // Some begin with the prompt, or the prompt and the answer, of another.
    const other = asked[below(asked.length + 1)];
    const begin = other ? [...other.prompt, ...(below(2) === 0 ? other.choices[0]! : [])] : [];
    const length = Math.min(1 + begin.length + below(150), contextLength - 2);
    const prompt = [...begin, ...Array.from({ length: 200 }, () => below(997))].slice(0, length);
    const maxTokens = 1 + below(Math.min(200, contextLength - length));
    const n = below(4) === 0 ? 3 : 1;
    const request = requestFor(prompt, { n, maxTokens, ignoreEos: true });
    const one: Asked = {
      id: request.id,
      prompt,
      maxTokens,
      choices: Array.from({ length: n }, () => []),
      isCancelled: false,
      isDone: false,
    };
    asked.push(one);
    const cancelAt = below(4) === 0 ? below(n * maxTokens) : Number.POSITIVE_INFINITY;
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') one.choices[event.choice]!.push(...event.tokens);
        if (event.type === 'error') throw event.error;
        if (event.type === 'done') one.isDone = true;
      }
      if (one.choices.flat().length < cancelAt || one.isCancelled) return;
      one.isCancelled = true;
      engine.cancel(request.id);
    });
  };
  for (let event = 0; event < 10; event++) {
    ask();
    const { id } = asked[below(asked.length)]!;
    if (below(3) === 0) engine.pause(id);
    if (below(4) === 0) await engine.setPolicy({ scheduler: policyNames[below(policyNames.length)]! });
    for (let ends = below(60); ends > 0; ends--) await endOne();
  }
  for (const { id } of asked) engine.resume(id);
  for (let idle = 0; idle < 20; idle = device.pending.length === 0 ? idle + 1 : 0) await endOne();
  for (const { prompt, maxTokens, choices, isCancelled, isDone } of asked) {
    expect(isDone || isCancelled).toBe(true);
    const expected = expectedAnswer(prompt, maxTokens, (at) => rule.packedAt(prompt.length, at));
    for (const tokens of choices) {
      expect(tokens).toEqual(isCancelled ? expected.slice(0, tokens.length) : expected);
    }
  }
  const stats = await engine.stats();
  expect(stats).toMatchObject({ running: 0, waiting: 0, slotsOpen: 0, kvSwappedBytes: 0 });
  expect(device.heldBytes).toBe(stats.cache.blocks * device.kv.blockBytes);
  if (!prefixCache) expect(device.heldBytes).toBe(0);
  await engine.close();
}

describe('sequences under packed KV, in random histories', () => {
  it('answer as if they were alone, and hold the bytes that they say', async () => {
    for (let seed = 0; seed < histories; seed++) {
      await runHistory(seed).catch((cause) => {
        throw new Error(`in the history of seed ${seed}: ${(cause as Error).message}`, { cause });
      });
    }
  });
});
