import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedRows, Want } from '../../engine/device/device.js';
import { openVisionEncoder, type VisionEncoder } from '../../engine/device/native.js';
import { type Checkpoint, readCheckpoint, visionWeightBytes } from '../../engine/index.js';
import { Folder } from '../scripts/support.js';
import { greedySlot } from '../support/demo.js';
import { openModel, step } from '../support/device.js';
import { makeVisionModel } from '../support/vision-model.js';

describe('vision encoder', () => {
  const folder = new Folder();
  let checkpoint: Checkpoint;
  let encoder: VisionEncoder;
  beforeAll(async () => {
    makeVisionModel(folder.at('model'));
    checkpoint = await readCheckpoint(folder.at('model'));
    encoder = openVisionEncoder(checkpoint, { checkFinite: true, threads: 2 });
    expect(encoder.threads).toBe(2);
  });
  afterAll(() => {
    encoder.close();
    folder.close();
  });

  const tile = (seed: number) =>
    Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => Math.sin(i * (0.01 + seed / 100)) * 0.9);
  const image = (...tiles: Float32Array[]) => Float32Array.from(tiles.flatMap((values) => [...values]));

  it('makes the rows of several images at once, each tile from its own pixels', async () => {
    const [first, second] = [tile(1), tile(2)];
    const [both, alone] = await Promise.all([
      encoder.encode(image(first, second), 2),
      encoder.encode(second, 1),
    ]);
    const { tokensPerTile } = checkpoint.spec.vision!;
    expect(alone).toHaveLength(tokensPerTile * checkpoint.spec.hidden);
    expect(both.slice(alone.length)).toEqual(alone);
    expect(both.slice(0, alone.length)).not.toEqual(alone);
    expect(alone.every(Number.isFinite)).toBe(true);
  });

  it('says what its weights take, near what a checkpoint foretells', () => {
    expect(encoder.weightBytes / visionWeightBytes(checkpoint)).toBeCloseTo(1, 1);
  });

  it('refuses pixels that are not those of its tiles', async () => {
    await expect(encoder.encode(tile(1), 2)).rejects.toThrow(/an image of 2 tiles has 12288 values/);
    await expect(encoder.encode(tile(1).subarray(1), 1)).rejects.toThrow(/each has 3 x 64 x 64/);
    await expect(encoder.encode(new Float64Array(12288) as never, 1)).rejects.toThrow(/Float32Array/);
  });

  it('rejects what waits when it is closed, and what comes later', async () => {
    const other = openVisionEncoder(checkpoint, { checkFinite: false, threads: 1 });
    const results = Promise.allSettled([1, 2, 3].map((seed) => other.encode(tile(seed), 1)));
    other.close();
    other.close();
    for (const result of await results) {
      if (result.status === 'rejected') expect(String(result.reason)).toMatch(/was closed before/);
    }
    await expect(other.encode(tile(1), 1)).rejects.toThrow(/is closed/);
  });

  it('gives a prompt its image: logits follow the pixels, and none of it depends on the chunks', async () => {
    const device = await openModel(folder.at('model'), { weights: 'int8' });
    const { imageTokenId, tokensPerTile } = checkpoint.spec.vision!;
    const prompt = [5, 6, ...new Array<number>(tokensPerTile).fill(imageTokenId), 7, 8];
    const logitsOf = async (embedded: readonly EmbeddedRows[], chunk: number) => {
      device.openSlot(0, greedySlot, embedded);
      device.kv.reserve(0, prompt.length);
      let logits: Float32Array | undefined;
      for (let begin = 0; begin < prompt.length; begin += chunk) {
        const result = await step(device.prefill, 0, prompt.slice(begin, begin + chunk), Want.logits);
        logits = result.logits.get(0);
      }
      device.closeSlot(0);
      return logits!;
    };
    device.partition(device.info.units);
    const [one, two] = [await encoder.encode(tile(1), 1), await encoder.encode(tile(2), 1)];
    const whole = await logitsOf([{ position: 2, values: one }], 64);
    expect(await logitsOf([{ position: 2, values: one }], 5)).toEqual(whole);
    expect(await logitsOf([{ position: 2, values: two }], 64)).not.toEqual(whole);
    expect(await logitsOf([], 64)).not.toEqual(whole);
    expect(() => device.openSlot(0, greedySlot, [{ position: 2, values: one.subarray(1) }])).toThrow(
      /expected some rows of 64/,
    );
  });
});
