import { describe, expect, it } from 'vitest';
import {
  type Device,
  operatorClasses,
  type PageClass,
  pageClasses,
  type SlotSampling,
  Want,
} from '../../engine/device/device.js';
import { goldenCases, greedySlot } from '../support/demo.js';
import { openDemo, step } from '../support/device.js';

const prompt = goldenCases()
  .find(({ prompt_ids }) => prompt_ids.length > 80)!
  .prompt_ids.slice(0, 75);

/** Draws, and counts what it has drawn. */
const drawing: SlotSampling = {
  ...greedySlot,
  temperature: 1,
  frequencyPenalty: 0.5,
  presencePenalty: 0.3,
  seed: 42n,
  promptTokens: Int32Array.from(prompt),
};

/** Reads the prompt into an open slot, from what its cache holds on, and returns the first token. */
async function prefill(device: Device, slot: number, reserve = 128): Promise<number> {
  expect(device.kv.reserve(slot, reserve)).toBe(true);
  device.partition(device.info.units);
  const rest = prompt.slice(device.kv.length(slot));
  return (await step(device.prefill, slot, rest, Want.sample)).tokens[0]!;
}

async function decode(device: Device, slot: number, count: number): Promise<number[]> {
  device.partition(0);
  const tokens: number[] = [];
  while (tokens.length < count) tokens.push((await step(device.decode, slot, [], Want.sample)).tokens[0]!);
  return tokens;
}

/** The answer of a sequence that nothing interrupts. */
async function undisturbed(device: Device, count: number): Promise<number[]> {
  device.openSlot(0, drawing);
  const tokens = [await prefill(device, 0)];
  tokens.push(...(await decode(device, 0, count - 1)));
  device.closeSlot(0);
  return tokens;
}

describe('a slot that is swapped out', () => {
  for (const kvPrecision of ['bf16', 'int8'] as const) {
    it(`goes on as if nothing had happened, in the same slot or a new one (${kvPrecision})`, async () => {
      const device = await openDemo({ kvPrecision });
      const expected = await undisturbed(device, 12);
      const free = device.kv.freeBlocks();

      device.openSlot(0, drawing);
      const tokens = [await prefill(device, 0)];
      tokens.push(...(await decode(device, 0, 3)));
      const first = await device.kv.swapOut(0);
      expect(first).toMatchObject({ tokens: 78, bytes: 3 * device.kv.blockBytes });
      expect(device.kv.length(0)).toBe(0);
      expect(device.kv.freeBlocks()).toBe(free);

      // Someone else writes on the pages.
      device.openSlot(1, greedySlot);
      await prefill(device, 1);
      expect(await device.kv.swapIn(0, first)).toBe(true);
      expect(device.kv.length(0)).toBe(78);
      device.kv.reserve(0, 128);
      tokens.push(...(await decode(device, 0, 4)));

      const second = await device.kv.swapOut(0);
      device.closeSlot(0);
      device.openSlot(2, { ...drawing, generatedTokens: Int32Array.from(tokens) });
      expect(await device.kv.swapIn(2, second)).toBe(true);
      device.kv.reserve(2, 128);
      const last = await step(device.decode, 2, [tokens.at(-1)!], Want.sample);
      tokens.push(last.tokens[0]!, ...(await decode(device, 2, 3)));
      expect(tokens).toEqual(expected);
    });
  }

  it('copies what it shares with the prefix cache, and leaves it there', async () => {
    const device = await openDemo();
    const expected = await undisturbed(device, 6);
    const free = device.kv.freeBlocks();
    device.openSlot(1, greedySlot);
    await prefill(device, 1);
    const cached = Int32Array.of(device.kv.publish(1, 0), device.kv.publish(1, 1));
    device.closeSlot(1);

    device.openSlot(0, drawing);
    device.kv.attach(0, cached);
    const tokens = [await prefill(device, 0)];
    const swapped = await device.kv.swapOut(0);
    expect(device.kv.freeBlocks()).toBe(free - 2);
    device.kv.unpublish(cached);
    expect(device.kv.freeBlocks()).toBe(free);
    expect(await device.kv.swapIn(0, swapped)).toBe(true);
    device.kv.reserve(0, 128);
    tokens.push(...(await decode(device, 0, 5)));
    expect(tokens).toEqual(expected);
  });

  it('leaves its far pages in host memory, whose places it keeps', async () => {
    const classBytes = (await openDemo()).kv.classBlockBytes;
    const device = await openDemo({ farBytes: 3 * classBytes.int4 });
    const { kv } = device;
    const convert = async (to: PageClass) => {
      const classes = new Uint8Array(2 * device.info.spec.layers).fill(pageClasses.indexOf(to));
      const converting = kv.convert(0, 0, 2, classes);
      if (!converting) return false;
      await converting;
      kv.finishConversion(0);
      return true;
    };
    const begin = async () => {
      device.openSlot(0, drawing);
      const tokens = [await prefill(device, 0)];
      expect(await convert('int4')).toBe(true);
      return tokens;
    };
    const expected = [...(await begin()), ...(await decode(device, 0, 5))];
    device.closeSlot(0);

    const tokens = await begin();
    expect(kv.freeFarBlocks()).toBe(3);
    expect(await convert('far')).toBe(true);
    expect(kv.freeFarBlocks()).toBe(1);
    expect(kv.heldBytes()).toMatchObject({ int4: 0, far: 2 * classBytes.far });
    const swapped = await kv.swapOut(0);
    expect(kv.freeFarBlocks()).toBe(1);
    expect(swapped.bytes).toBe(2 * classBytes.far + classBytes.bf16);
    expect(await kv.swapIn(0, swapped)).toBe(true);
    kv.reserve(0, 128);
    tokens.push(...(await decode(device, 0, 5)));
    expect(tokens).toEqual(expected);

    const last = await kv.swapOut(0);
    expect(kv.freeFarBlocks()).toBe(1);
    last.release();
    expect(kv.freeFarBlocks()).toBe(3);
    device.closeSlot(0);
    await device.close();

    await expect(openDemo({ farBytes: classBytes.int4 - 1 })).rejects.toThrow(/--pack-far-memory/);
    await expect(openDemo({ farBytes: -1 })).rejects.toThrow(/farBytes must be a whole number/);
  });

  it('does not hold up the others', async () => {
    const device = await openDemo();
    const expected = await undisturbed(device, 8);
    device.openSlot(0, drawing);
    device.openSlot(1, greedySlot);
    const tokens = [await prefill(device, 0)];
    await prefill(device, 1);
    const swapping = device.kv.swapOut(1);
    tokens.push(...(await decode(device, 0, 4)));
    const swapped = await swapping;
    const returning = device.kv.swapIn(1, swapped);
    tokens.push(...(await decode(device, 0, 3)));
    expect(await returning).toBe(true);
    expect(tokens).toEqual(expected);
  });

  it('waits until there is room', async () => {
    const device = await openDemo({ kvBytes: 1 << 20 });
    const { totalBlocks, pageTokens } = device.kv;
    device.openSlot(0, greedySlot);
    device.openSlot(1, greedySlot);
    await prefill(device, 0, 96);
    const swapped = await device.kv.swapOut(0);
    device.kv.reserve(1, (totalBlocks - 2) * pageTokens);
    expect(await device.kv.swapIn(0, swapped)).toBe(false);
    expect(device.kv.freeBlocks()).toBe(2);
    expect(swapped.bytes).toBe(3 * device.kv.blockBytes);
    device.closeSlot(1);
    expect(await device.kv.swapIn(0, swapped)).toBe(true);
    expect(device.kv.freeBlocks()).toBe(totalBlocks - 3);
  });

  it('is left alone meanwhile, and refuses misuse by name', async () => {
    const device = await openDemo();
    const { kv } = device;
    await expect(kv.swapOut(0)).rejects.toThrow(/slot 0 is not open/);
    device.openSlot(0, greedySlot);
    const first = await prefill(device, 0);
    const swapping = kv.swapOut(0);
    expect(() => device.closeSlot(0)).toThrow(/slot 0 is being swapped/);
    expect(() => kv.reserve(0, 256)).toThrow(/being swapped/);
    expect(() => kv.publish(0, 0)).toThrow(/being swapped/);
    await expect(kv.swapOut(0)).rejects.toThrow(/being swapped/);
    await expect(step(device.prefill, 0, [first], 0)).rejects.toThrow(/being swapped/);
    const swapped = await swapping;

    device.openSlot(1, greedySlot);
    kv.reserve(1, 1);
    await expect(kv.swapIn(1, swapped)).rejects.toThrow(/slot 1 holds KV already/);
    const returning = kv.swapIn(0, swapped);
    expect(() => swapped.release()).toThrow(/being copied/);
    await expect(kv.swapIn(0, swapped)).rejects.toThrow(/being swapped/);
    expect(await returning).toBe(true);
    await expect(kv.swapIn(0, swapped)).rejects.toThrow(/was released/);

    const dropped = await kv.swapOut(0);
    dropped.release();
    dropped.release();
    await expect(kv.swapIn(0, dropped)).rejects.toThrow(/was released/);
    const other = await openDemo();
    other.openSlot(0, greedySlot);
    const foreign = await other.kv.swapOut(0);
    await expect(kv.swapIn(0, foreign)).rejects.toThrow(/another device/);
  });

  it('does not outlive its device', async () => {
    const device = await openDemo();
    device.openSlot(0, greedySlot);
    device.openSlot(1, greedySlot);
    await prefill(device, 0);
    await prefill(device, 1);
    const swapped = await device.kv.swapOut(0);
    const late = expect(device.kv.swapOut(1)).rejects.toThrow(/closed while slot 1/);
    await device.close();
    await late;
    swapped.release();
    await expect(device.kv.swapIn(0, swapped)).rejects.toThrow(/was released/);
  });
});

describe('the time of a step', () => {
  it('is told by operator class, and classes that cannot occur take none', async () => {
    const device = await openDemo();
    device.openSlot(0, greedySlot);
    device.kv.reserve(0, 128);
    device.partition(device.info.units);
    const spent = async (lane: 'prefill' | 'decode', tokens: number[]) => {
      const { seconds, opSeconds = new Float64Array() } = await step(device[lane], 0, tokens, Want.sample);
      expect(opSeconds.length).toBe(operatorClasses.length);
      expect(opSeconds.reduce((sum, one) => sum + one, 0)).toBeCloseTo(seconds, 9);
      expect(Math.min(...opSeconds)).toBeGreaterThanOrEqual(0);
      return operatorClasses.filter((_, i) => opSeconds[i]! > 0);
    };
    expect(await spent('prefill', prompt)).toEqual(['matmul', 'prefillAttention', 'other']);
    device.partition(0);
    expect(await spent('decode', [])).toEqual(['matmul', 'decodeAttention', 'other']);
  });
});
