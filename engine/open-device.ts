import os from 'node:os';
import path from 'node:path';
import type { EngineSettings, ModelSettings } from '../config/schema.js';
import type { Device, PrecisionClass } from './device/device.js';
import { cpuInfo, openNativeDevice } from './device/native.js';
import { blocksFor } from './kv/admission.js';
import { readCheckpoint } from './model/checkpoint.js';
import type { Checkpoint, ModelSpec } from './model/model-spec.js';

export interface DeviceSettings {
  readonly model: ModelSettings;
  readonly engine: EngineSettings;
}

/** Tokens of a page; a block of memory is the pages of all layers for as many tokens. */
export const pageTokens = 32;
/** Of the memory that is free before the weights are packed, what the KV cache may take at most. */
const kvShareOfFreeMemory = 0.4;

/** The demo model's and every other folder's device, ready to run steps. */
export async function openDevice(
  { model, engine }: DeviceSettings,
  onProgress?: (doneBytes: number, totalBytes: number) => void,
): Promise<{ device: Device; checkpoint: Checkpoint }> {
  const checkpoint = await readCheckpoint(path.resolve(model.path));
  const device = await openNativeDevice(
    checkpoint,
    {
      weights: model.weights,
      checkFinite: model.checkFinite,
      ...deviceSizes(checkpoint.spec, engine),
      ...(engine.isa && { isa: engine.isa }),
    },
    onProgress,
  );
  return { device, checkpoint };
}

export interface DeviceSizes {
  readonly kvPrecision: PrecisionClass;
  readonly kvBytes: number;
  readonly slots: number;
  readonly maxStepTokens: number;
  readonly units: number;
}

/** How large a device the settings ask for; what they leave open follows from the model and this machine. */
export function deviceSizes(spec: ModelSpec, engine: EngineSettings): DeviceSizes {
  const kvPrecision: PrecisionClass = engine.kv === 'int8' ? 'int8' : 'bf16';
  return {
    kvPrecision,
    kvBytes: engine.kvMemory ?? defaultKvBytes(spec, kvPrecision, engine),
    slots: engine.maxSequences,
    maxStepTokens: Math.max(engine.maxStepTokens, engine.maxSequences),
    units: engine.cores ?? cpuInfo().cores,
  };
}

/** Enough for every sequence at full length, within a share of the free memory. */
function defaultKvBytes(spec: ModelSpec, precision: PrecisionClass, engine: EngineSettings): number {
  const context = Math.min(engine.contextLength ?? spec.contextLength, spec.contextLength);
  const blocks = blocksFor(context, pageTokens) * engine.maxSequences;
  const wanted = blocks * blockBytes(spec, precision);
  return Math.min(wanted, Math.floor(os.freemem() * kvShareOfFreeMemory));
}

/** See native/kv/page-format.h: codes of K and V, and for int8 a float32 scale a token, head and of each. */
function blockBytes(spec: ModelSpec, precision: PrecisionClass): number {
  const perHead = precision === 'bf16' ? spec.headDim * 2 : spec.headDim + Float32Array.BYTES_PER_ELEMENT;
  return spec.layers * spec.kvHeads * pageTokens * 2 * perHead;
}
