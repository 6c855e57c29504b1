import os from 'node:os';
import path from 'node:path';
import type { EngineSettings, ModelSettings } from '../config/schema.js';
import type { BornClass, Device, PrecisionClass } from './device/device.js';
import { cpuInfo, openNativeDevice } from './device/native.js';
import { EngineError } from './errors.js';
import { blocksFor } from './kv/admission.js';
import { PackingRule } from './kv/packing-rule.js';
import { byAttention, type PackedForm, uniform } from './kv/page-classes.js';
import { PressureRule } from './kv/pressure-rule.js';
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
  /** That steps write. */
  readonly kvPrecision: BornClass;
  readonly kvBytes: number;
  readonly slots: number;
  readonly maxStepTokens: number;
  readonly units: number;
}

/** How large a device the settings ask for; what they leave open follows from the model and this machine. */
export function deviceSizes(spec: ModelSpec, engine: EngineSettings): DeviceSizes {
  return {
    kvPrecision: engine.kv === 'int8' ? 'int8' : 'bf16',
    kvBytes: engine.kvMemory ?? defaultKvBytes(spec, engine),
    slots: engine.maxSequences,
    maxStepTokens: Math.max(engine.maxStepTokens, engine.maxSequences),
    units: engine.cores ?? cpuInfo().cores,
  };
}

/** How the settings have KV packed; undefined where it stays in the class that steps write. */
export function packingRule(engine: EngineSettings): PackingRule | undefined {
  const form = packedForm(engine);
  return form && new PackingRule(form, engine.kvRecentTokens, pageTokens);
}

function zipForm({ zipTau }: EngineSettings): PackedForm {
  return { high: 'int4', low: 'int2', pick: byAttention(zipTau) };
}

function packedForm(engine: EngineSettings): PackedForm | undefined {
  const { kv } = engine;
  if (kv === 'zip') return zipForm(engine);
  return kv === 'int4' || kv === 'int2' ? uniform(kv) : undefined;
}

/** How the settings have KV squeezed when memory is short; undefined: not at all. */
export function pressureRule(engine: EngineSettings): PressureRule | undefined {
  const { kv, kvPressure, kvRecentTokens } = engine;
  if (kvPressure === 'off') return undefined;
  if (kv !== 'exact' && (kv !== 'int8' || kvPressure === 'int8')) {
    throw new EngineError(
      'invalid_request',
      `--kv-pressure ${kvPressure} does nothing under --kv ${kv}, which is as small already. Leave one of them out.`,
    );
  }
  return new PressureRule(
    kvPressure === 'zip' ? zipForm(engine) : uniform(kvPressure),
    kvRecentTokens,
    pageTokens,
  );
}

/** The largest class that a token has in the long run. */
export function largestClass({ kv }: EngineSettings): PrecisionClass {
  if (kv === 'exact') return 'bf16';
  return kv === 'zip' ? 'int4' : kv;
}

/** Enough for every sequence at full length, within a share of the free memory. */
function defaultKvBytes(spec: ModelSpec, engine: EngineSettings): number {
  const context = Math.min(engine.contextLength ?? spec.contextLength, spec.contextLength);
  const blocks = blocksFor(context, pageTokens) * engine.maxSequences;
  const wanted = blocks * blockBytes(spec, largestClass(engine)) + exactBytes(spec, engine);
  return Math.min(wanted, Math.floor(os.freemem() * kvShareOfFreeMemory));
}

/** Beside packed pages: the recent tokens of every sequence, and a prompt that is being read. */
function exactBytes(spec: ModelSpec, engine: EngineSettings): number {
  const rule = packingRule(engine);
  if (!rule) return 0;
  const context = Math.min(engine.contextLength ?? spec.contextLength, spec.contextLength);
  const recent = Math.min(context, rule.mostExactTokens) * engine.maxSequences;
  return blocksFor(recent + context, pageTokens) * blockBytes(spec, 'bf16');
}

/**
 * See native/kv/page-format.h: codes of K and V; for int8 a float32 scale a token, head and of each; for packed classes
 * two bf16 a token for V and two a channel for K.
 */
function blockBytes(spec: ModelSpec, precision: PrecisionClass): number {
  const elements = 2 * pageTokens * spec.headDim;
  const headBytes = {
    bf16: elements * 2,
    int8: elements + 2 * pageTokens * 4,
    int4: elements / 2 + 4 * (pageTokens + spec.headDim),
    int2: elements / 4 + 4 * (pageTokens + spec.headDim),
  };
  return spec.layers * spec.kvHeads * headBytes[precision];
}
