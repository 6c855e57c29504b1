import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EngineSettings, ModelSettings } from '../../../config/schema.js';
import { MicroRunner } from '../../../engine/calibration/micro-runner.js';
import { openCalibrationDevice } from '../../../engine/calibration/open-calibration-device.js';
import type { MicroRun, Shape } from '../../../engine/calibration/plan.js';
import type { Device } from '../../../engine/device/device.js';
import { demoFolder } from '../../support/demo.js';

/** The device, and a list of all blocks that slots are given as their past. */
function watched(device: Device): { device: Device; attached: number[] } {
  const attached: number[] = [];
  const kv = new Proxy(device.kv, {
    get(pool, key) {
      const value: unknown = Reflect.get(pool, key, pool);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (key === 'attach') attached.push(...(args[1] as Int32Array));
        return value.apply(pool, args);
      };
    },
  });
  const withKv = new Proxy(device, {
    get(whole, key) {
      if (key === 'kv') return kv;
      const value: unknown = Reflect.get(whole, key, whole);
      return typeof value === 'function' ? value.bind(whole) : value;
    },
  });
  return { device: withKv, attached };
}

describe('micro-runs', () => {
  const poolBlocks = 48;
  let device: Device;
  let attached: number[];
  let runner: MicroRunner;
  let units: number;

  beforeAll(async () => {
    const opened = await openCalibrationDevice({
      model: ModelSettings.parse({ path: demoFolder }),
      engine: EngineSettings.parse({ device: 'cpu', maxSequences: 4, maxStepTokens: 64 }),
    });
    ({ device, attached } = watched(opened.device));
    units = device.info.units;
    runner = await MicroRunner.open(device, poolBlocks * device.kv.blockBytes, 60, () => 0);
  });
  afterAll(async () => {
    runner.close();
    await device.close();
  });

  /** Blocks that the run's steps have behind them. */
  async function blocksOf(shape: Partial<Shape>): Promise<number[]> {
    attached.length = 0;
    const run: MicroRun = {
      mode: 'alone',
      units,
      shape: { chunks: [], sequences: 0, context: 0, ...shape },
    };
    await runner.measure(run, -1);
    return [...attached];
  }

  it('give every sequence pages of its own, other than those of the run before, until all of the pool was read', async () => {
    const pages = device.kv.pageTokens;
    const decode = await blocksOf({ sequences: 3, context: 5 * pages });
    const prompt = await blocksOf({ chunks: [{ tokens: 16, context: 10 * pages }] });
    const mixed = await blocksOf({
      chunks: [{ tokens: 16, context: 11 * pages }],
      sequences: 4,
      context: 3 * pages,
    });
    expect([decode.length, prompt.length, mixed.length]).toEqual([15, 10, 23]);
    const all = [...decode, ...prompt, ...mixed];
    expect(all).toHaveLength(poolBlocks);
    expect(new Set(all).size).toBe(poolBlocks);
    // From now on the ones that were read longest ago.
    expect(await blocksOf({ sequences: 3, context: 5 * pages })).toEqual(decode);
  });

  it('fill the pool that they are told to', async () => {
    const blocks = new Set<number>();
    for (let turn = 0; turn < 8; turn++) {
      for (const block of await blocksOf({ sequences: 4, context: 4 * device.kv.pageTokens }))
        blocks.add(block);
    }
    expect(blocks.size).toBe(poolBlocks);
  });
});
