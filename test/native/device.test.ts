import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { type Device, type StepResult, Want } from '../../engine/device/device.js';
import { cpuInfo, type NativeDeviceSettings, openNativeDevice } from '../../engine/device/native.js';
import { readCheckpoint } from '../../engine/model/checkpoint.js';
import { demoFolder, goldenCases, greedySlot, root } from '../support/demo.js';
import { openDemo, step } from '../support/device.js';

/** Prefill in chunks, then decode greedily. */
async function generate(device: Device, prompt: readonly number[], count: number, chunk = 2048) {
  device.openSlot(0, greedySlot);
  expect(device.kv.reserve(0, prompt.length + count)).toBe(true);
  device.partition(device.info.units);
  let result: StepResult | undefined;
  for (let begin = 0; begin < prompt.length; begin += chunk) {
    const last = begin + chunk >= prompt.length;
    result = await step(
      device.prefill,
      0,
      prompt.slice(begin, begin + chunk),
      last ? Want.sample | Want.logits : 0,
    );
  }
  const logits = result!.logits.get(0)!;
  const tokens = [result!.tokens[0]!];
  device.partition(0);
  while (tokens.length < count) tokens.push((await step(device.decode, 0, [], Want.sample)).tokens[0]!);
  device.closeSlot(0);
  return { logits, tokens };
}

describe('native device', () => {
  for (const isa of cpuInfo().isas) {
    it(`equals the independent implementation on the demo model (${isa})`, async () => {
      const device = await openDemo({ compute: { kind: 'cpu', cores: cpuInfo().cores, isa } });
      for (const golden of goldenCases()) {
        const { logits, tokens } = await generate(device, golden.prompt_ids, golden.greedy_ids.length);
        expect(tokens).toEqual(golden.greedy_ids);
        // bf16 activations against float32 ones, on logits of up to 20: measured 0.051.
        const errors = golden.logits16.map((expected, i) => Math.abs(logits[i]! - expected));
        expect(Math.max(...errors)).toBeLessThan(0.08);
      }
    });
  }

  it('keeps the greedy answers with int8 weights and int8 KV', async () => {
    const device = await openDemo({ weights: 'int8', kvPrecision: 'int8' });
    for (const golden of goldenCases()) {
      const { tokens } = await generate(device, golden.prompt_ids, golden.greedy_ids.length);
      expect(tokens).toEqual(golden.greedy_ids);
    }
  });

  for (const weights of ['bf16', 'int8', 'int4'] as const) {
    it(`computes the same bits however a prompt is cut (${weights})`, async () => {
      const device = await openDemo({ weights });
      const prompt = goldenCases().find(({ prompt_ids }) => prompt_ids.length > 200)!.prompt_ids;
      const whole = await generate(device, prompt, 4);
      for (const chunk of [1, 7, 32, 100]) {
        const { logits, tokens } = await generate(device, prompt, 4, chunk);
        expect(tokens).toEqual(whole.tokens);
        expect(Buffer.from(logits.buffer).equals(Buffer.from(whole.logits.buffer))).toBe(true);
      }
    });
  }

  it('scores prompts alike in one step and in several', async () => {
    const device = await openDemo();
    const prompt = goldenCases()[1]!.prompt_ids.slice(0, 40);
    const score = async (chunk: number): Promise<number[]> => {
      device.partition(device.info.units);
      device.openSlot(0, { ...greedySlot, logprobs: 2 });
      device.kv.reserve(0, prompt.length);
      const scores: number[] = [];
      for (let begin = 0; begin < prompt.length; begin += chunk) {
        const result = await step(device.prefill, 0, prompt.slice(begin, begin + chunk), Want.promptLogprobs);
        scores.push(...result.promptLogprobs.get(0)!.logprobs);
      }
      device.closeSlot(0);
      return scores;
    };
    const whole = await score(prompt.length);
    expect(whole[0]).toBeNaN();
    expect(whole.slice(1).every((value) => value <= 0)).toBe(true);
    expect(await score(7)).toEqual(whole);
    expect(await score(1)).toEqual(whole);
  });

  it('runs both lanes at once with the results of one', async () => {
    const device = await openDemo();
    const [a, b] = goldenCases();
    device.openSlot(0, greedySlot);
    device.openSlot(1, greedySlot);
    device.kv.reserve(0, 2048);
    device.kv.reserve(1, 2048);
    device.partition(device.info.units);
    const first = await step(device.prefill, 0, a!.prompt_ids, Want.sample);
    device.partition(Math.max(1, Math.floor(device.info.units / 2)));
    const tokens = [first.tokens[0]!];
    const decode = async (): Promise<void> => {
      while (tokens.length < a!.greedy_ids.length) {
        tokens.push((await step(device.decode, 0, [], Want.sample)).tokens[0]!);
      }
    };
    if (device.info.units > 1) {
      const [prefilled] = await Promise.all([step(device.prefill, 1, b!.prompt_ids, Want.sample), decode()]);
      expect(prefilled.tokens[0]).toBe(b!.greedy_ids[0]);
      expect(tokens).toEqual(a!.greedy_ids);
    }
  });

  it('goes on from a step that runs, before anybody knows what that has sampled', async () => {
    const device = await openDemo();
    const { prompt_ids, greedy_ids } = goldenCases()[0]!;
    device.openSlot(0, greedySlot);
    device.kv.reserve(0, prompt_ids.length);
    device.partition(0);
    const tokens: number[] = [];
    let running: Promise<StepResult | null> = step(device.decode, 0, prompt_ids, Want.sample);
    for (let count = 1; count < greedy_ids.length; count++) {
      expect(device.kv.reserve(0, prompt_ids.length + count)).toBe(true);
      const { result } = device.decode.follow!(Int32Array.of(0));
      tokens.push((await running)!.tokens[0]!);
      running = result;
    }
    tokens.push((await running)!.tokens[0]!);
    expect(tokens).toEqual(greedy_ids);

    device.openSlot(1, greedySlot);
    device.kv.reserve(1, 2001);
    const reading = step(device.decode, 1, new Array(2000).fill(3), Want.sample);
    const waiting = device.decode.follow!(Int32Array.of(1));
    expect(waiting.withdraw()).toBe(true);
    expect(waiting.withdraw()).toBe(false);
    expect(await waiting.result).toBeNull();
    await reading;
    expect(device.kv.length(1)).toBe(2000);
    await expect(device.decode.follow!(Int32Array.of(2)).result).rejects.toThrow(/slot 2 is not open/);
  });

  it('shares blocks between slots, and forks one', async () => {
    const device = await openDemo();
    const prompt = goldenCases()
      .find(({ prompt_ids }) => prompt_ids.length > 70)!
      .prompt_ids.slice(0, 70);
    const free = device.kv.freeBlocks();
    device.partition(device.info.units);
    device.openSlot(0, greedySlot);
    device.kv.reserve(0, 71);
    const expected = (await step(device.prefill, 0, prompt, Want.sample)).tokens[0];
    const blocks = Int32Array.of(device.kv.publish(0, 0), device.kv.publish(0, 1));
    expect(() => device.kv.publish(0, 2)).toThrow(/not full/);

    device.openSlot(1, greedySlot);
    device.kv.attach(1, blocks);
    expect(device.kv.length(1)).toBe(64);
    device.kv.reserve(1, 71);
    expect((await step(device.prefill, 1, prompt.slice(64), Want.sample)).tokens[0]).toBe(expected);

    device.openSlot(2, greedySlot);
    expect(device.kv.fork(0, 2, 69)).toBe(true);
    expect((await step(device.prefill, 2, prompt.slice(69), Want.sample)).tokens[0]).toBe(expected);

    for (const slot of [0, 1, 2]) device.closeSlot(slot);
    expect(device.kv.freeBlocks()).toBe(free - 2);
    device.kv.unpublish(blocks);
    expect(device.kv.freeBlocks()).toBe(free);
  });

  it('answers that memory is out, and changes nothing', async () => {
    const device = await openDemo({ kvBytes: 1 << 20 });
    const { totalBlocks, pageTokens } = device.kv;
    device.openSlot(0, greedySlot);
    expect(device.kv.reserve(0, (totalBlocks + 1) * pageTokens)).toBe(false);
    expect(device.kv.freeBlocks()).toBe(totalBlocks);
    expect(device.kv.reserve(0, totalBlocks * pageTokens)).toBe(true);
    expect(device.kv.freeBlocks()).toBe(0);
  });

  it('refuses malformed steps by name, and goes on', async () => {
    const device = await openDemo();
    await expect(step(device.decode, 0, [1], Want.sample)).rejects.toThrow(/slot 0 is not open/);
    device.openSlot(0, greedySlot);
    expect(() => device.openSlot(0, greedySlot)).toThrow(/open already/);
    await expect(step(device.prefill, 0, [1], 0)).rejects.toThrow(/has room for 0 tokens/);
    device.kv.reserve(0, 32);
    await expect(step(device.prefill, 0, [99_999], 0)).rejects.toThrow(/token 99999/);
    await expect(step(device.decode, 0, [], Want.sample)).rejects.toThrow(/no sampled token/);
    expect((await step(device.prefill, 0, [1, 2], Want.sample)).tokens[0]).toBeGreaterThanOrEqual(0);
    device.kv.reserve(0, 2048);
    const running = step(device.prefill, 0, new Array(2000).fill(3), 0);
    expect(() => device.closeSlot(0)).toThrow(/running step/);
    await running;
    expect(device.kv.length(0)).toBe(2002);
  });

  it('refuses checkpoints whose tensors do not fit, by name', async () => {
    const checkpoint = await readCheckpoint(demoFolder);
    const settings: NativeDeviceSettings = {
      weights: 'int8',
      kvPrecision: 'bf16',
      kvBytes: 1 << 20,
      slots: 1,
      maxStepTokens: 32,
      compute: { kind: 'cpu', cores: 1 },
      kvMayShrink: false,
      maxSequenceTokens: 0,
      checkFinite: false,
    };
    const withTensors = (tensors: typeof checkpoint.tensors) =>
      openNativeDevice({ ...checkpoint, tensors }, settings);
    const [first, ...rest] = checkpoint.tensors;
    await expect(withTensors(rest)).rejects.toThrow(first!.name);
    await expect(withTensors([...rest, { ...first!, end: 1e15 }])).rejects.toThrow(/truncated/);
    await expect(withTensors([...rest, { ...first!, shape: [3, 3] }])).rejects.toThrow(
      /shape \[3, 3\], expected/,
    );
    await expect(withTensors([...checkpoint.tensors, first!])).rejects.toThrow(/twice/);
  });

  it('closes twice, and refuses work afterwards', async () => {
    const device = await openDemo();
    await device.close();
    await device.close();
    expect(() => device.kv.freeBlocks()).toThrow(/closed/);
  });

  it('loads in several worker threads, which may end without closing', async () => {
    const code = `
      import { parentPort } from 'node:worker_threads';
      import { openDevice } from 'file://${root}/dist/engine/index.js';
      import { Settings } from 'file://${root}/dist/config/schema.js';
      const settings = Settings.parse({ model: { path: '${demoFolder}' }, engine: { kvMemory: 1 << 20, cores: 1 } });
      const { device } = await openDevice(settings);
      parentPort.postMessage(device.info.units);
      process.exit(0);
    `;
    const start = () =>
      new Promise((resolve, reject) => {
        const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
        let message: unknown;
        worker.on('message', (value) => {
          message = value;
        });
        worker.on('error', reject);
        worker.on('exit', () => resolve(message));
      });
    expect(await Promise.all([start(), start(), start()])).toEqual([1, 1, 1]);
  });
});
