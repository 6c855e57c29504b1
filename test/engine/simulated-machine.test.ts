import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { openDevice } from '../../engine/open-model-device.js';
import { openSimulatedMachine } from '../../engine/simulated-machine.js';
import { pretendCalibrated } from '../support/calibrated.js';
import { demoFolder } from '../support/demo.js';

function settingsOf(engine: object = {}, model: object = {}) {
  return {
    model: ModelSettings.parse({ path: demoFolder, ...model }),
    engine: EngineSettings.parse(engine),
  };
}

describe('a simulated machine', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'tandem-machine-'));
    vi.stubEnv('XDG_CACHE_HOME', folder);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  it('is the device that a server of the same settings would open', async () => {
    const settings = settingsOf({ kvMemory: 4 * 2 ** 20, maxSequences: 48, maxStepTokens: 32, kv: 'int8' });
    const { device } = await openDevice(settings);
    const { info, kv } = device;
    await device.close();
    // Kept under what the device says of itself, and found under what is known without it.
    await pretendCalibrated(settings, info);
    const machine = await openSimulatedMachine(settings);
    expect(machine.info).toEqual({
      kind: info.kind,
      name: info.name,
      isa: info.isa,
      units: info.units,
      spec: info.spec,
    });
    expect(machine.sizes).toMatchObject({
      slots: info.slots,
      maxStepTokens: info.maxStepTokens,
      kvPrecision: kv.precision,
    });
    expect(Math.floor(machine.sizes.kvBytes / kv.blockBytes)).toBe(kv.totalBlocks);
    expect(machine.pageTokens).toBe(kv.pageTokens);
    expect(machine.openDevice().units).toBe(info.units);
  });

  it('has the policy that its server would have', async () => {
    const settings = settingsOf({ scheduler: 'chunked', contextLength: 256 });
    await pretendCalibrated(settings);
    const machine = await openSimulatedMachine(settings);
    expect(machine.openPolicy('nexus').name).toBe('nexus');
    expect(machine.openPolicy('reactive').name).toBe('reactive');
    expect(machine.contextLength).toBe(256);
  });

  it('is the processor, and no GPU', async () => {
    await expect(openSimulatedMachine(settingsOf({ device: 'cuda' }))).rejects.toThrow(
      /tandem simulate --gpu/,
    );
  });

  it('is refused before this machine was calibrated, with the command that does it', async () => {
    await pretendCalibrated(settingsOf());
    const settings = settingsOf({ cores: 1, isa: 'portable' }, { weights: 'int4' });
    await expect(openSimulatedMachine(settings)).rejects.toThrow(
      `run "tandem calibrate ${demoFolder} --weights int4 --cores 1 --isa portable" first`,
    );
  });
});
