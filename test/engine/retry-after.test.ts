import { describe, expect, it } from 'vitest';
import { AnswerLength } from '../../engine/answer-length.js';
import { LocalEngine } from '../../engine/engine.js';
import type { EngineInfo } from '../../engine/index.js';
import { uniform } from '../../engine/kv/page-classes.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { ChunkedPolicy } from '../../engine/scheduler/policies/chunked.js';
import type { StepLoad } from '../../engine/scheduler/step-load.js';
import { demoFolder } from '../support/demo.js';
import { generate, requestFor } from '../support/generate.js';
import { HashingDevice } from '../support/hashing-device.js';

/** Two slots, one place in the queue, steps that end when they are told, and a known price of them. */
async function openFull(stepSeconds: (load: StepLoad) => number) {
  const device = new HashingDevice(64, 2, [uniform('int4')]);
  const info = {
    spec: device.info.spec,
    contextLength: 512,
    eosTokenIds: [],
    device: { ...device.info, notes: [] },
  } as unknown as EngineInfo;
  const scheduling = { policy: new ChunkedPolicy(96), stepSeconds, constantsOrigin: 'a test' };
  const engine = new LocalEngine({
    device,
    tokenizer: await openTokenizer(demoFolder),
    info,
    prefixCache: false,
    swapBytes: 0,
    ...scheduling,
    reopenScheduling: () => scheduling,
    prefillOrder: 'fcfs',
    reopenSeconds: 1,
    maxQueue: 1,
    queueTimeoutMs: 0,
    now: () => 0,
  });
  const step = async (): Promise<void> => {
    for (const end of device.pending.splice(0)) end();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { engine, step };
}

const ask = (maxTokens: number) => requestFor([1, 2, 3], { maxTokens, ignoreEos: true });
/** When one that is refused is told to come again. */
const refusal = (engine: LocalEngine): Promise<number> =>
  generate(engine, ask(5)).then(
    () => Promise.reject(new Error('it was not refused')),
    ({ code, retryAfterSeconds }) => {
      expect(code).toBe('queue_full');
      return retryAfterSeconds;
    },
  );

describe('a full queue', () => {
  it('says when the first of the running answers can have ended, by the cost model', async () => {
    const { engine, step } = await openFull(({ prefillTokens, decodeSequences }) =>
      prefillTokens > 0 ? 7 : decodeSequences * 0.25,
    );
    const running = [generate(engine, ask(101)), generate(engine, ask(41))];
    await step();
    await step();
    const waiting = generate(engine, ask(5));
    await step();
    // Both prompts are read. The shorter answer has 2 tokens, and 39 to go at half a second each.
    expect(await refusal(engine)).toBe(20);

    let isOver = false;
    void Promise.all([...running, waiting]).then(() => {
      isOver = true;
    });
    for (let i = 0; !isOver && i < 1000; i++) await step();
    expect(isOver).toBe(true);
    // Nothing runs any more.
    await engine.close();
  });

  it('counts the prompts that are yet to be read', async () => {
    const { engine, step } = await openFull(({ prefillTokens }) => prefillTokens * 2);
    // Two prompts of three tokens have a slot; the second of them has not begun.
    const running = [generate(engine, ask(9)), generate(engine, ask(9))];
    expect(await refusal(engine)).toBe(12);
    let isOver = false;
    void Promise.all(running).then(() => {
      isOver = true;
    });
    for (let i = 0; !isOver && i < 1000; i++) await step();
    expect(isOver).toBe(true);
    await engine.close();
  });
});

describe('the length of answers', () => {
  it('is guessed from those that ended lately, and is never more than they may have', () => {
    const lengths = new AnswerLength();
    const young = { generatedTokens: 10, remainingOutput: 500 };
    expect(lengths.leftOf(young)).toBe(500);
    lengths.add(30);
    expect(lengths.leftOf(young)).toBe(20);
    expect(lengths.leftOf({ generatedTokens: 10, remainingOutput: 4 })).toBe(4);
    // Longer than usual already: it may end at any time.
    expect(lengths.leftOf({ generatedTokens: 90, remainingOutput: 400 })).toBe(1);
    for (let i = 0; i < 200; i++) lengths.add(100);
    expect(lengths.leftOf(young)).toBe(90);
  });
});
