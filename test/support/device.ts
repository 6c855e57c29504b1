import { onTestFinished } from 'vitest';
import type { Device, Lane, StepResult } from '../../engine/device/device.js';
import { cpuInfo, type NativeDeviceSettings, openNativeDevice } from '../../engine/device/native.js';
import { readCheckpoint } from '../../engine/model/checkpoint.js';
import { demoFolder } from './demo.js';

/** The demo model on this machine, until the test's end. */
export function openDemo(settings: Partial<NativeDeviceSettings> = {}): Promise<Device> {
  return openModel(demoFolder, settings);
}

/** The same of any folder in Hugging Face layout. */
export async function openModel(
  folder: string,
  settings: Partial<NativeDeviceSettings> = {},
): Promise<Device> {
  const checkpoint = await readCheckpoint(folder);
  const device = await openNativeDevice(checkpoint, {
    weights: 'bf16',
    kvPrecision: 'bf16',
    kvBytes: 64 << 20,
    slots: 8,
    maxStepTokens: 2048,
    compute: { kind: 'cpu', cores: cpuInfo().cores },
    kvMayShrink: false,
    maxSequenceTokens: 0,
    checkFinite: true,
    ...settings,
  });
  onTestFinished(() => device.close());
  return device;
}

/** A step of one entry. */
export function step(
  lane: Lane,
  slot: number,
  tokens: readonly number[],
  wants: number,
): Promise<StepResult> {
  return lane.run({
    slots: Int32Array.of(slot),
    counts: Int32Array.of(tokens.length),
    tokens: Int32Array.from(tokens),
    wants: Uint8Array.of(wants),
  });
}
