import { describe, expect, it } from 'vitest';
import { DeviceLostError } from '../../../engine/device/device.js';
import { uniform } from '../../../engine/kv/page-classes.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import { mostBlocks, partitionRoom } from '../../../engine/kv/sequence-partitions.js';
import { policyNames } from '../../../engine/scheduler/open-policy.js';
import type { TokenEvent } from '../../../engine/types.js';
import { requestFor } from '../../support/generate.js';
import { expectedInPartitions } from '../../support/hashing-answers.js';
import { HashingDevice } from '../../support/hashing-device.js';
import { hashingEngine } from '../../support/hashing-engine.js';
import { randomOf } from '../scheduler/history.js';

const histories = Number(process.env.HISTORIES ?? 30);

interface Turn {
  readonly id: string;
  readonly prompt: number[];
  readonly maxTokens: number;
  readonly choices: number[][];
  /** Of the session, with this prompt; of one that was cancelled unknown. */
  promptTokens: number;
  /** Or failed with its step. */
  isCancelled: boolean;
  isDone: boolean;
}

/**
 * Requests and sessions that begin alike, pause, are cancelled, end and run out of memory; steps, copies and
 * conversions end in any order, and steps of some histories fail.
 */
async function runHistory(seed: number) {
  const below = randomOf(seed);
  const rule = new PartitionRule(
    {
      sinkTokens: 32 * (1 + below(2)),
      recentTokens: 32 * (1 + below(4)),
      midTokens: 32 * (1 + below(6)),
      farTokens: 32 * below(2) * (1 + below(12)),
      topPages: 1,
    },
    32,
  );
  const { kv } = new HashingDevice(1, 1, [uniform('int4')]);
  const least = mostBlocks(kv, rule, 10_000) + partitionRoom(kv, rule);
  const farBlocks = rule.farTokens / 32 + below(2) * below(12);
  const device = new HashingDevice(
    least + 4 + below(25),
    1 + below(6),
    [uniform('int4')],
    undefined,
    farBlocks,
  );
  const fails = below(3) === 0;
  device.stepFault = () => (fails && below(150) === 0 ? new Error('a fault') : undefined);
  const prefixCache = below(3) > 0;
  const policyName = policyNames[below(policyNames.length)]!;
  const engine = hashingEngine({
    device,
    prefixCache,
    partitions: rule,
    swapBytes: below(3) * 40_000,
    policyName,
    prefillOrder: below(2) === 0 ? 'spf' : 'fcfs',
  });
  let farBlocksAtOnce = 0;
  const endOne = async (): Promise<void> => {
    farBlocksAtOnce = Math.max(farBlocksAtOnce, device.farBlocks);
    device.pending.splice(below(device.pending.length), 1)[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  let cachedTokens = 0;
  let failedTurns = 0;
  /** Of each session, by its name; the requests without one are sessions of a single turn. */
  const sessions = new Map<string, Turn[]>();
  const all = () => [...sessions.values()].flat();
  const ask = (name: string, isSession: boolean, alike?: Turn): void => {
    const turns = sessions.get(name) ?? [];
    sessions.set(name, turns);
    // Some begin as another did, or go on behind it.
    const others = all().filter(({ choices }) => choices[0]!.length > 0);
    const other = isSession || below(2) === 0 ? undefined : others[below(others.length)];
    const begin = other
      ? [...other.prompt, ...other.choices[0]!].slice(0, -below(2) * below(60) || undefined)
      : [];
    const prompt = alike?.prompt ?? [...begin, ...Array.from({ length: 1 + below(250) }, () => below(997))];
    const maxTokens = 1 + below(150);
    const n = isSession || below(4) > 0 ? 1 : 3;
    const request = requestFor(prompt, {
      n,
      maxTokens,
      ignoreEos: true,
      ...(isSession && { session: name }),
    });
    const turn: Turn = {
      id: request.id,
      prompt,
      maxTokens,
      choices: Array.from({ length: n }, () => []),
      promptTokens: Number.NaN,
      isCancelled: false,
      isDone: false,
    };
    turns.push(turn);
    const cancelAt = below(4) === 0 ? below(n * maxTokens) : Number.POSITIVE_INFINITY;
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') turn.choices[event.choice]!.push(...event.tokens);
        if (event.type === 'error') {
          if (event.error.code !== 'engine_failed') throw event.error;
          turn.isCancelled = true;
          failedTurns++;
        }
        if (event.type !== 'done') continue;
        turn.isDone = true;
        turn.promptTokens = event.usage.promptTokens;
        cachedTokens += isSession ? 0 : event.usage.cachedTokens;
      }
      if (turn.choices.flat().length < cancelAt || turn.isCancelled) return;
      turn.isCancelled = true;
      engine.cancel(request.id);
    });
  };
  for (let event = 0; event < 14; event++) {
    const idle = [...sessions].filter(
      ([name, turns]) =>
        name.startsWith('session') && turns.every(({ isDone, isCancelled }) => isDone || isCancelled),
    );
    const [name] = idle[below(idle.length)] ?? [];
    const isSession = below(2) === 0;
    if (name !== undefined && below(3) > 0) ask(name, true);
    else ask(`${isSession ? 'session' : 'request'}-${event}`, isSession);
    // Some are read at once with one that begins alike.
    if (below(4) === 0) ask(`request-alike-${event}`, false, all().at(-1));
    const turns = all();
    const { id } = turns[below(turns.length)]!;
    if (below(3) === 0) engine.pause(id);
    for (let ends = below(80); ends > 0; ends--) await endOne();
  }
  for (const { id } of all()) engine.resume(id);
  const settle = async () => {
    for (let idle = 0; idle < 20; idle = device.pending.length === 0 ? idle + 1 : 0) await endOne();
  };
  await settle();
  for (const turns of sessions.values()) {
    const tokens: number[] = [];
    let isCertain = true;
    for (const { prompt, maxTokens, choices, isCancelled, isDone, promptTokens } of turns) {
      expect(isDone || isCancelled).toBe(true);
      // How much more of a cancelled answer the session has kept shows in its next turn, if that comes to its end.
      if (!isDone && !isCertain) break;
      if (!isCertain) {
        tokens.push(...expectedInPartitions(tokens, promptTokens - prompt.length - tokens.length, rule));
      }
      isCertain = isDone;
      tokens.push(...prompt);
      if (isDone) expect(promptTokens).toBe(tokens.length);
      const expected = expectedInPartitions(tokens, maxTokens, rule);
      for (const one of choices) {
        expect(one).toEqual(isCancelled ? expected.slice(0, one.length) : expected);
      }
      tokens.push(...choices[0]!);
    }
  }
  for (const name of sessions.keys()) engine.endSession(name);
  await settle();
  const stats = await engine.stats();
  expect(stats).toMatchObject({ running: 0, waiting: 0, slotsOpen: 0, kvSwappedBytes: 0 });
  const { blocks, evictedBlocks } = stats.cache;
  const heldBlocks = Math.floor(device.heldBytes / device.kv.blockBytes);
  if (!prefixCache) expect([device.heldBytes, device.farBlocks]).toEqual([0, 0]);
  // What the cache gives up may still be held by what is kept behind it.
  else if (evictedBlocks === 0) expect(heldBlocks).toBe(blocks);
  else expect(heldBlocks).toBeGreaterThanOrEqual(blocks);
  await engine.close();
  return {
    droppedTokens: stats.kvDroppedTokens,
    cachedTokens,
    failedTurns,
    farIsFull: farBlocks > 0 && farBlocksAtOnce === farBlocks,
  };
}

describe('sequences in partitions, in random histories', () => {
  it('answer as if they were alone, go on in their sessions, and leave nothing behind', async () => {
    let droppedTokens = 0;
    let cachedTokens = 0;
    let failedTurns = 0;
    let fullOfFar = 0;
    for (let seed = 0; seed < histories; seed++) {
      const history = await runHistory(seed).catch((cause) => {
        throw new Error(`in the history of seed ${seed}: ${(cause as Error).message}`, { cause });
      });
      droppedTokens += history.droppedTokens;
      cachedTokens += history.cachedTokens;
      failedTurns += history.failedTurns;
      if (history.farIsFull) fullOfFar++;
    }
    expect(fullOfFar).toBeGreaterThan(0);
    expect(droppedTokens).toBeGreaterThan(0);
    expect(cachedTokens).toBeGreaterThan(0);
    expect(failedTurns).toBeGreaterThan(0);
  });
});

describe('a sequence that needs the host memory that a later one has', () => {
  it('is given it, and the later one is computed anew', async () => {
    const rule = new PartitionRule(
      { sinkTokens: 32, recentTokens: 32, midTokens: 64, farTokens: 256, topPages: 1 },
      32,
    );
    const device = new HashingDevice(100, 2, [uniform('int4')], undefined, rule.farTokens / 32);
    const engine = hashingEngine({ device, prefixCache: false, partitions: rule, swapBytes: 1_000_000 });
    const prompts = [1, 2].map((step) => Array.from({ length: 200 }, (_, i) => (i * step) % 997));
    const answers = prompts.map((prompt) => {
      const tokens: number[] = [];
      engine.submit(requestFor(prompt, { maxTokens: 400, ignoreEos: true }), (events) => {
        for (const event of events) if (event.type === 'tokens') tokens.push(...event.tokens);
      });
      return tokens;
    });
    while (answers.some(({ length }) => length < 400)) {
      device.pending.shift()!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(answers).toEqual(prompts.map((prompt) => expectedInPartitions(prompt, 400, rule)));
    const { promptTokensRead, preemptions } = await engine.stats();
    expect(preemptions).toBe(1);
    // What the later one had read and answered before it gave way, once more.
    expect(promptTokensRead).toBeGreaterThan(600);
    for (const end of device.pending.splice(0)) end();
    await engine.close();
  });
});

describe('a request of a session', () => {
  /** An engine whose session has had an answer; its steps have ended, the copy of what it computed has not. */
  async function withCopyUnderWay() {
    const rule = new PartitionRule({ sinkTokens: 32, recentTokens: 32, midTokens: 64, topPages: 1 }, 32);
    const device = new HashingDevice(100, 2, [uniform('int4')]);
    const engine = hashingEngine({ device, prefixCache: false, partitions: rule, swapBytes: 1_000_000 });
    const events: string[] = [];
    const ask = (name: string, session = 'one') =>
      engine.submit(
        requestFor([1, 2, 3], { maxTokens: 1, ignoreEos: true, session }),
        (some: readonly TokenEvent[]) =>
          events.push(
            ...some.map((event) => `${name} ${event.type === 'error' ? event.error.code : event.type}`),
          ),
      );
    ask('first');
    while (!events.includes('first done')) {
      device.pending.shift()!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { device, engine, events, ask };
  }

  it('is told when the engine closes while it waits for the one before', async () => {
    const { device, engine, events, ask } = await withCopyUnderWay();
    ask('second');
    const closed = engine.close();
    expect(events.at(-1)).toBe('second shutting_down');
    for (const end of device.pending.splice(0)) end();
    await closed;
  });

  it('is told that the device is lost, and waits for nothing on it', async () => {
    const { device, engine, events, ask } = await withCopyUnderWay();
    device.stepFault = () => new DeviceLostError('gone');
    ask('other', 'two');
    device.pending.pop()!();
    await engine.lost;
    ask('second');
    ask('third', 'two');
    await new Promise((resolve) => setImmediate(resolve));
    expect(events.slice(-3)).toEqual(
      ['other', 'second', 'third'].map((name) => `${name} device_unavailable`),
    );
    for (const end of device.pending.splice(0)) end();
    await engine.close();
  });
});
