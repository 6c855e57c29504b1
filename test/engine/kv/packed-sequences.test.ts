import { describe, expect, it } from 'vitest';
import { packingRoom } from '../../../engine/kv/packing-room.js';
import { PackingRule } from '../../../engine/kv/packing-rule.js';
import { byAttention, type PackedForm, uniform } from '../../../engine/kv/page-classes.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import { PressureRule } from '../../../engine/kv/pressure-rule.js';
import { SparsePrefill } from '../../../engine/kv/sparse-prefill.js';
import { type PolicyName, policyNames } from '../../../engine/scheduler/open-policy.js';
import type { LanePolicy } from '../../../engine/scheduler/policy.js';
import { requestFor } from '../../support/generate.js';
import { expectedAnswer } from '../../support/hashing-answers.js';
import { HashingDevice } from '../../support/hashing-device.js';
import { hashingEngine, simplePolicy } from '../../support/hashing-engine.js';
import { randomOf } from '../scheduler/history.js';

const zip = { high: 'int4', low: 'int2', pick: byAttention(0.6) } as const;
const forms: readonly PackedForm[] = [
  uniform('int4'),
  uniform('int2'),
  zip,
  { high: 'int8', low: 'none', pick: byAttention(0.4) },
];
const ladders: readonly (readonly PackedForm[])[] = [
  [uniform('int8')],
  [zip],
  [uniform('int8'), zip],
  [uniform('int8'), uniform('int4')],
];
const histories = Number(process.env.HISTORIES ?? 20);

interface Asked {
  readonly id: string;
  readonly prompt: number[];
  readonly maxTokens: number;
  readonly choices: number[][];
  isCancelled: boolean;
  isDone: boolean;
  hasFailed: boolean;
}

interface History {
  readonly packedBlocks: number;
  readonly droppedTokens: number;
  readonly compacted: number;
  /** Times that the scheduler foresaw a decode step of fewer bytes than exact sequences would read. */
  readonly smallerLoads: number;
}

/**
 * Requests that begin alike, some at once, fork, are scored, pause, are cancelled and run out of memory; some go on at once from
 * an answer; steps, copies and conversions end in any order, and some steps fail.
 */
async function runHistory(seed: number, squeezes: boolean): Promise<History> {
  const below = randomOf(seed);
  const form = forms[below(forms.length)]!;
  const recent = 32 * (1 + below(3));
  // What is int8 already is not packed into int8.
  const born = form.high === 'int8' || below(4) === 0 ? 'bf16' : 'int8';
  const rule = new PackingRule(form, recent, 32, born);
  const rungs = ladders[below(ladders.length)]!;
  const used = squeezes ? rungs : [form];
  const partitions =
    seed % 2 === 0
      ? undefined
      : new PartitionRule({ sinkTokens: 32, recentTokens: 32, midTokens: 64, topPages: 1 }, 32);
  const device = new HashingDevice(14 + below(30), 1 + below(6), used, squeezes ? undefined : born);
  const fails = below(3) === 0;
  device.stepFault = () => (fails && below(150) === 0 ? new Error('a fault') : undefined);
  const prefixCache = below(3) > 0;
  const sparse = below(2) === 0 ? new SparsePrefill(0.5, 2, 32, 64) : undefined;
  const contextLength = (device.kv.totalBlocks - packingRoom(device.kv, used)) * 32;
  const policy = policyNames[below(policyNames.length)]!;
  let smallerLoads = 0;
  const open = (name: PolicyName): LanePolicy => {
    const inner = simplePolicy(name);
    return {
      name: inner.name,
      decide: (situation) => {
        const { decodeKvBytes, decodeTokens } = situation.decode ?? { decodeKvBytes: 0, decodeTokens: 0 };
        const exactBytes = (decodeTokens * device.kv.blockBytes) / 32;
        if (decodeKvBytes < exactBytes) smallerLoads++;
        if (decodeKvBytes !== exactBytes && !device.hasPacked) expect(decodeKvBytes).toBe(exactBytes);
        return inner.decide(situation);
      },
      observe: (step) => inner.observe?.(step),
    };
  };
  const engine = hashingEngine({
    device,
    contextLength,
    prefixCache,
    sparse,
    ...(squeezes ? { pressure: new PressureRule(rungs, recent, 32, partitions) } : { packing: rule }),
    swapBytes: below(3) * 20_000,
    policyName: policy,
    policyOf: open,
    prefillOrder: below(2) === 0 ? 'spf' : 'fcfs',
  });
  const endOne = async (): Promise<void> => {
    device.pending.splice(below(device.pending.length), 1)[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const asked: Asked[] = [];
  let follows = 0;
  /** What the next prompt begins with: the prompt of another, or that and its answer, or nothing. */
  const anyBegin = (): number[] => {
    const other = asked[below(asked.length + 1)];
    return other ? [...other.prompt, ...(below(2) === 0 ? other.choices[0]! : [])] : [];
  };
  const ask = (begin = anyBegin()): void => {
    // Some take all the memory that there is.
    const more = below(10) === 0 ? contextLength : below(150);
    const length = Math.min(1 + begin.length + more, contextLength - 2);
    const prompt = [...begin, ...Array.from({ length: contextLength }, () => below(997))].slice(0, length);
    const maxTokens = 1 + below(Math.min(200, contextLength - length));
    const n = below(4) === 0 ? 3 : 1;
    const promptLogprobs = below(8) === 0;
    const request = requestFor(prompt, { n, maxTokens, promptLogprobs, ignoreEos: true });
    const one: Asked = {
      id: request.id,
      prompt,
      maxTokens,
      choices: Array.from({ length: n }, () => []),
      isCancelled: false,
      isDone: false,
      hasFailed: false,
    };
    asked.push(one);
    const goOn = (): void => {
      if (follows > 2 || below(4) > 0) return;
      follows++;
      ask([...prompt, ...one.choices[0]!]);
    };
    const cancelAt = below(4) === 0 ? below(n * maxTokens) : Number.POSITIVE_INFINITY;
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') one.choices[event.choice]!.push(...event.tokens);
        if (event.type === 'error') {
          expect(event.error.message).toMatch(/a fault/);
          one.hasFailed = true;
        }
        if (event.type !== 'done') continue;
        one.isDone = true;
        goOn();
      }
      if (one.choices.flat().length < cancelAt || one.isCancelled || one.isDone || one.hasFailed) return;
      one.isCancelled = true;
      engine.cancel(request.id);
      goOn();
    });
  };
  for (let event = 0; event < 10; event++) {
    ask();
    // Some are read at once with one that begins alike.
    if (below(4) === 0) ask(asked.at(-1)!.prompt);
    const { id } = asked[below(asked.length)]!;
    if (below(3) === 0) engine.pause(id);
    if (below(4) === 0) await engine.setPolicy({ scheduler: policyNames[below(policyNames.length)]! });
    for (let ends = below(60); ends > 0; ends--) await endOne();
  }
  for (const { id } of asked) engine.resume(id);
  for (let idle = 0; idle < 20; idle = device.pending.length === 0 ? idle + 1 : 0) await endOne();
  for (const { prompt, maxTokens, choices, isCancelled, isDone, hasFailed } of asked) {
    expect(isDone || isCancelled || hasFailed).toBe(true);
    const isCut = isCancelled || hasFailed;
    if (squeezes) {
      // What they answer depends on when memory was short, but they all come to their end.
      if (!isCut) expect(choices.map(({ length }) => length)).toEqual(choices.map(() => maxTokens));
      continue;
    }
    const expected = expectedAnswer(prompt, maxTokens, rule, sparse);
    for (const tokens of choices) {
      expect(tokens).toEqual(isCut ? expected.slice(0, tokens.length) : expected);
    }
  }
  const stats = await engine.stats();
  expect(stats).toMatchObject({ running: 0, waiting: 0, slotsOpen: 0, kvSwappedBytes: 0 });
  expect(device.heldBytes).toBe(stats.cache.blocks * device.kv.blockBytes);
  if (!prefixCache) expect(device.heldBytes).toBe(0);
  await engine.close();
  return {
    packedBlocks: stats.kvPackedBlocks,
    droppedTokens: stats.kvDroppedTokens,
    compacted: device.compacted,
    smallerLoads,
  };
}

async function runHistories(squeezes: boolean): Promise<void> {
  let packedBlocks = 0;
  let droppedTokens = 0;
  let compacted = 0;
  let smallerLoads = 0;
  for (let seed = 0; seed < histories; seed++) {
    const history = await runHistory(seed, squeezes).catch((cause) => {
      throw new Error(`in the history of seed ${seed}: ${(cause as Error).message}`, { cause });
    });
    packedBlocks += history.packedBlocks;
    droppedTokens += history.droppedTokens;
    compacted += history.compacted;
    smallerLoads += history.smallerLoads;
  }
  expect(packedBlocks).toBeGreaterThan(0);
  expect(droppedTokens > 0).toBe(squeezes);
  expect(compacted).toBeGreaterThan(0);
  expect(smallerLoads).toBeGreaterThan(0);
}

describe('sequences in random histories', () => {
  it('answer under packed KV as if they were alone, and hold the bytes that they say', async () => {
    await runHistories(false);
  });

  it('are squeezed when memory is short, and then too all end and leave nothing behind', async () => {
    await runHistories(true);
  });
});
