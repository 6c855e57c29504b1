import { describe, expect, it } from 'vitest';
import { uniform } from '../../../engine/kv/page-classes.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import { mostBlocks, partitionRoom } from '../../../engine/kv/sequence-partitions.js';
import { requestFor } from '../../support/generate.js';
import { HashingDevice } from '../../support/hashing-device.js';
import { hashingEngine } from '../../support/hashing-engine.js';

/** An engine over a device whose steps and conversions end when the test says so. */
function setUp(partitions?: PartitionRule, blocks = 200) {
  const device = new HashingDevice(blocks, 4, partitions ? [uniform('int4')] : []);
  const engine = hashingEngine({ device, ...(partitions && { partitions }) });
  const ask = (prompt: number[], maxTokens: number) => {
    const request = requestFor(prompt, { maxTokens, ignoreEos: true });
    const asked = { id: request.id, tokens: [] as number[], cachedTokens: undefined as number | undefined };
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') asked.tokens.push(...event.tokens);
        if (event.type === 'error') throw event.error;
        if (event.type === 'done') asked.cachedTokens = event.usage.cachedTokens;
      }
    });
    return asked;
  };
  /** Ends what began last, so that a conversion goes on for as long as the steps beside it can do without its end. */
  const until = async (isReached: () => boolean): Promise<void> => {
    while (!isReached()) {
      device.pending.pop()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { engine, device, ask, until };
}

const prompt = Array.from({ length: 400 }, (_, i) => (i * i) % 997);

describe('a request that goes on at once', () => {
  it('from an answer whose last pages are still being packed, reads none of it again', async () => {
    const rule = new PartitionRule({ sinkTokens: 32, recentTokens: 64, midTokens: 128, topPages: 1 }, 32);
    let beingPacked = 0;
    for (let maxTokens = 20; maxTokens < 60; maxTokens++) {
      const { engine, device, ask, until } = setUp(rule);
      const first = ask(prompt, maxTokens);
      await until(() => first.cachedTokens !== undefined);
      beingPacked += device.pending.length;
      const second = ask([...prompt, ...first.tokens, 5], 1);
      await until(() => second.cachedTokens !== undefined);
      // The last token of an answer is never read.
      const computed = prompt.length + maxTokens - 1;
      expect(second.cachedTokens, `behind ${maxTokens} tokens`).toBe(computed - (computed % 32));
      await until(() => device.pending.length === 0);
      await engine.close();
    }
    expect(beingPacked).toBeGreaterThan(0);
  });

  it('from one that was cancelled in the middle of a step, reads none of it again', async () => {
    const { engine, device, ask, until } = setUp();
    const first = ask(prompt, 200);
    await until(() => first.tokens.length === 100);
    expect(device.pending).toHaveLength(1);
    engine.cancel(first.id);
    const second = ask([...prompt, ...first.tokens], 1);
    await until(() => second.cachedTokens !== undefined);
    expect(second.cachedTokens).toBe(480);
    await engine.close();
  });

  it('from what takes all the memory that there is, reads none of it again', async () => {
    const rule = new PartitionRule({ sinkTokens: 64, recentTokens: 64, midTokens: 256, topPages: 1 }, 32);
    const { kv } = new HashingDevice(1, 1, [uniform('int4')]);
    const blocks = mostBlocks(kv, rule, 10_000) + partitionRoom(kv, rule);
    const { engine, device, ask, until } = setUp(rule, blocks);
    const first = ask([...prompt, ...prompt], 1);
    await until(() => first.cachedTokens !== undefined);
    const second = ask([...prompt, ...prompt, ...first.tokens, 5], 1);
    await until(() => second.cachedTokens !== undefined);
    expect(second.cachedTokens).toBe(800);
    await until(() => device.pending.length === 0);
    await engine.close();
  });
});
