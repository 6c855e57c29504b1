import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DeviceInfo } from '../device/device.js';
import type { ModelSpec } from '../model/model-spec.js';
import type { WeightClass } from '../model/weight-bytes.js';
import { type DeviceConstants, parseConstants } from '../scheduler/device-constants.js';
import { presetFor } from '../scheduler/presets.js';

/** What constants belong to: the same device with the same model's shape in the same weights. */
export interface ConstantsKey {
  readonly device: Pick<DeviceInfo, 'kind' | 'name' | 'isa' | 'units'>;
  readonly spec: ModelSpec;
  readonly weights: WeightClass;
}

export interface LoadedConstants {
  readonly constants: DeviceConstants;
  readonly source: 'calibrated' | 'preset';
  /** For people: the file, or the preset's name. */
  readonly origin: string;
  /** Why a stored file was not taken, where there is one that is broken. */
  readonly problem?: string;
}

/** The file in `folder` for these constants. */
export function constantsFile(folder: string, { device, spec, weights }: ConstantsKey): string {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = spec;
  const { kind, name, isa, units } = device;
  const key = [kind, name, isa, units, weights, layers, hidden, heads, kvHeads, headDim, ffn, vocab];
  const hash = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16);
  return path.join(folder, `constants-${hash}.json`);
}

/** The constants that `tandem calibrate` left for this device and model, else the preset that is nearest. */
export function loadConstants(folder: string, key: ConstantsKey): LoadedConstants {
  const file = constantsFile(folder, key);
  const preset = () => presetFor(key.device, key.weights);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    const constants = preset();
    return { constants, source: 'preset', origin: constants.name };
  }
  try {
    const constants = parseConstants(JSON.parse(text), file);
    if (constants.units !== key.device.units) {
      throw new Error(`${file}: units is ${constants.units}, the device has ${key.device.units}`);
    }
    return { constants, source: 'calibrated', origin: file };
  } catch (error) {
    const constants = preset();
    const problem = `${(error as Error).message}; run "tandem calibrate" again`;
    return { constants, source: 'preset', origin: constants.name, problem };
  }
}

/** Stores constants where `loadConstants` finds them; the file's path. */
export function saveConstants(folder: string, key: ConstantsKey, constants: DeviceConstants): string {
  const file = constantsFile(folder, key);
  mkdirSync(folder, { recursive: true });
  // A server that starts at the same time finds the old file or the new one, not half of it.
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(constants, null, 1)}\n`);
  renameSync(draft, file);
  return file;
}
