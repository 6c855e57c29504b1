import os from 'node:os';
import type { EngineSettings, ModelSettings } from '../config/schema.js';
import { chooseDevice } from './choose-device.js';
import type { BornClass, Device, DeviceInfo, HeldClass, PrecisionClass } from './device/device.js';
import {
  chunkPages,
  cpuInfo,
  cudaInfo,
  type NativeDeviceSettings,
  openNativeDevice,
} from './device/native.js';
import { EngineError } from './errors.js';
import { checkFits } from './gpu-memory.js';
import { blocksFor } from './kv/admission.js';
import { PackingRule } from './kv/packing-rule.js';
import { byAttention, type PackedForm, uniform } from './kv/page-classes.js';
import { pageTokens } from './kv/page-tokens.js';
import { PartitionRule } from './kv/partition-rule.js';
import { PressureRule } from './kv/pressure-rule.js';
import { mostBlocks, partitionRoom } from './kv/sequence-partitions.js';
import { SparsePrefill } from './kv/sparse-prefill.js';
import type { Checkpoint, ModelSpec } from './model/model-spec.js';
import { packedWeightBytes } from './model/weight-bytes.js';

export interface DeviceSettings {
  readonly model: ModelSettings;
  readonly engine: EngineSettings;
}

/** Of the memory that is free before the weights are packed, what the KV cache may take at most. */
const kvShareOfFreeMemory = 0.4;

/** Tokens of one prefill step where nobody says: what keeps a device busy without making others wait for long. */
const usualStepTokens = { cpu: 512, cuda: 2048, simulated: 512 } as const;

export function stepTokens({ maxStepTokens }: EngineSettings, kind: DeviceInfo['kind']): number {
  return maxStepTokens ?? usualStepTokens[kind];
}

export interface OpenedDevice {
  readonly device: Device;
  /** What a person should know of how the device was chosen. */
  readonly notes: readonly string[];
}

/** A device with these weights, ready to run steps. */
export async function openDeviceFor(
  checkpoint: Checkpoint,
  { model, engine }: DeviceSettings,
  onProgress?: (doneBytes: number, totalBytes: number) => void,
): Promise<OpenedDevice> {
  const choice = chooseDevice(engine, cudaInfo);
  const { spec } = checkpoint;
  const partitions = partitionRule(engine);
  if (partitions) checkSeen(spec, partitions);
  const { kvPrecision, kvBytes, slots, maxStepTokens } = deviceSizes(spec, engine, choice.kind);
  if (choice.kind === 'cuda') {
    const needed = {
      weightBytes: packedWeightBytes(checkpoint, model.weights),
      kvBytes: engine.kvMemory ?? 0,
    };
    checkFits(needed, { model, engine }, choice.found, choice.memoryFraction);
  }
  const device = await openNativeDevice(
    checkpoint,
    {
      weights: model.weights,
      checkFinite: model.checkFinite,
      kvPrecision,
      kvBytes,
      kvMayShrink: choice.kind === 'cuda' && engine.kvMemory === undefined,
      slots,
      maxStepTokens,
      maxSequenceTokens: partitions?.mostHeld ?? contextOf(spec, engine),
      ...selectionOf(engine),
      ...(partitions && { farBytes: farBytes(spec, engine, partitions) }),
      compute:
        choice.kind === 'cuda'
          ? { kind: 'cuda', gpu: choice.gpu, memoryFraction: choice.memoryFraction }
          : { kind: 'cpu', cores: cpuUnits(engine), ...(engine.isa && { isa: engine.isa }) },
    },
    onProgress,
  );
  return { device, notes: choice.notes };
}

export interface DeviceSizes {
  /** That steps write. */
  readonly kvPrecision: BornClass;
  readonly kvBytes: number;
  readonly slots: number;
  readonly maxStepTokens: number;
}

/** How large a device the settings ask for; what they leave open follows from the model and this machine. */
export function deviceSizes(spec: ModelSpec, engine: EngineSettings, kind: 'cpu' | 'cuda'): DeviceSizes {
  return {
    kvPrecision: engine.kv === 'int8' ? 'int8' : 'bf16',
    kvBytes: engine.kvMemory ?? defaultKvBytes(spec, engine, kind),
    slots: engine.maxSequences,
    maxStepTokens: Math.max(stepTokens(engine, kind), engine.maxSequences),
  };
}

/** Cores of the processor that the settings give to the engine. */
export function cpuUnits({ cores }: EngineSettings): number {
  return cores ?? cpuInfo().cores;
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

/** How the settings hold sequences of any length; undefined where they do not. */
export function partitionRule(engine: EngineSettings): PartitionRule | undefined {
  return engine.kv === 'pack' ? partitionsOf(engine, engine.packFarTokens) : undefined;
}

function partitionsOf(engine: EngineSettings, farTokens = 0): PartitionRule {
  const { packSinkTokens, packRecentTokens, packMidTokens, packTopPages } = engine;
  return new PartitionRule(
    {
      sinkTokens: packSinkTokens,
      recentTokens: packRecentTokens,
      midTokens: packMidTokens,
      farTokens,
      topPages: packTopPages,
    },
    pageTokens,
  );
}

/** What rows see of sequences in partitions. */
function selectionOf(engine: EngineSettings): Pick<NativeDeviceSettings, 'selection'> {
  const pressed = pressureRule(engine)?.partitions;
  const rule = partitionRule(engine) ?? pressed;
  if (!rule) return {};
  const { sinkTokens, topPages } = rule;
  return { selection: { sinkPages: sinkTokens / pageTokens, topPages, afterDrop: pressed !== undefined } };
}

/**
 * What a token sees lies closed up, and must be within what the model was trained on. As many pages as it chooses are in
 * mid: far ones are there to be passed by.
 */
function checkSeen(
  { contextLength }: ModelSpec,
  { mostSeen, sinkTokens, recentTokens, midTokens, farTokens, stride, topPages }: PartitionRule,
) {
  if (farTokens > 0 && midTokens < topPages * pageTokens) {
    throw new EngineError(
      'invalid_request',
      `With --pack-far-tokens a sequence must hold as many tokens in mid as its tokens choose there: raise ` +
        `--pack-mid-tokens to ${topPages * pageTokens} or lower --pack-top-pages.`,
    );
  }
  if (mostSeen <= contextLength) return;
  throw new EngineError(
    'invalid_request',
    `Under --kv pack a token would see up to ${mostSeen} tokens (sink ${sinkTokens}, top ${topPages} pages of ${pageTokens}, ` +
      `recent ${recentTokens} and ${stride} more), and the model was trained on ${contextLength}. ` +
      'Lower --pack-top-pages or --pack-recent-tokens.',
  );
}

function contextOf(spec: ModelSpec, engine: EngineSettings): number {
  return Math.min(engine.contextLength ?? spec.contextLength, spec.contextLength);
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
  const rungs: PackedForm[] = kv === 'exact' ? [uniform('int8')] : [];
  if (kvPressure === 'int4') rungs.push(uniform('int4'));
  if (kvPressure === 'zip' || kvPressure === 'pack') rungs.push(zipForm(engine));
  const partitions = kvPressure === 'pack' ? partitionsOf(engine) : undefined;
  return new PressureRule(rungs, kvRecentTokens, pageTokens, partitions);
}

/** Where the settings have prompts look; undefined: everywhere. */
export function sparsePrefill(
  { kv, prefillTau }: EngineSettings,
  { layers }: ModelSpec,
): SparsePrefill | undefined {
  if (kv === 'pack' && prefillTau < 1) {
    throw new EngineError(
      'invalid_request',
      '--prefill-tau below 1 does not go with --kv pack, whose tokens see the best pages only already. Leave one of them out.',
    );
  }
  return prefillTau < 1 ? new SparsePrefill(prefillTau, layers, pageTokens) : undefined;
}

/** The largest class that a token has in the long run. */
export function largestClass({ kv }: EngineSettings): PrecisionClass {
  if (kv === 'exact') return 'bf16';
  return kv === 'zip' || kv === 'pack' ? 'int4' : kv;
}

/** Enough for every sequence at full length; on the processor within a share of the free memory. */
function defaultKvBytes(spec: ModelSpec, engine: EngineSettings, kind: 'cpu' | 'cuda'): number {
  const partitions = partitionRule(engine);
  const blocks = blocksFor(contextOf(spec, engine), pageTokens) * engine.maxSequences;
  const wanted = partitions
    ? partitionBytes(spec, partitions, engine.maxSequences)
    : blocks * blockBytes(spec, largestClass(engine)) + unpackedBytes(spec, engine);
  return kind === 'cuda' ? wanted : Math.min(wanted, Math.floor(os.freemem() * kvShareOfFreeMemory));
}

/** Host memory for the far pages of all sequences, within what may be used for them. */
function farBytes(spec: ModelSpec, engine: EngineSettings, { farTokens }: PartitionRule): number {
  const ofOne = blocksFor(farTokens, pageTokens) * blockBytes(spec, 'int4');
  if (ofOne <= engine.packFarMemory) return Math.min(ofOne * engine.maxSequences, engine.packFarMemory);
  throw new EngineError(
    'invalid_request',
    `The ${farTokens} far tokens of one sequence take ${ofOne} bytes of host memory, and --pack-far-memory allows ` +
      `${engine.packFarMemory}. Raise it, or lower --pack-far-tokens.`,
  );
}

/** The partitions of so many sequences, and the room to pack in. */
function partitionBytes(spec: ModelSpec, rule: PartitionRule, sequences: number): number {
  const of = (name: HeldClass) => blockBytes(spec, name);
  const packed = { int4: of('int4'), int2: of('int2'), far: of('far') };
  const classBlockBytes = { bf16: of('bf16'), int8: of('int8'), ...packed };
  const sizes = { blockBytes: classBlockBytes.bf16, classBlockBytes, chunkPages: chunkPages() };
  const blocks = mostBlocks(sizes, rule, Number.POSITIVE_INFINITY) * sequences;
  const chunkBlocks = Math.ceil(sizes.chunkPages / spec.layers);
  const room = partitionRoom({ ...sizes, chunkBlocks, totalBlocks: Number.POSITIVE_INFINITY }, rule);
  return (blocks + room) * sizes.blockBytes;
}

/** Beside packed pages: the recent tokens of every sequence, and a prompt that is being read. */
function unpackedBytes(spec: ModelSpec, engine: EngineSettings): number {
  const rule = packingRule(engine);
  if (!rule) return 0;
  const context = contextOf(spec, engine);
  const recent = Math.min(context, rule.mostRecentTokens) * engine.maxSequences;
  return (
    blocksFor(recent, pageTokens) * blockBytes(spec, rule.recent) +
    blocksFor(context, pageTokens) * blockBytes(spec, 'bf16')
  );
}

/**
 * See native/kv/page-format.h: codes of K and V; for int8 a float32 scale a token, head and of each; for packed classes
 * two bf16 a token for V and two a channel for K. Of a far page the latter and an address.
 */
function blockBytes(spec: ModelSpec, name: HeldClass): number {
  const elements = 2 * pageTokens * spec.headDim;
  const headBytes = {
    bf16: elements * 2,
    int8: elements + 2 * pageTokens * 4,
    int4: elements / 2 + 4 * (pageTokens + spec.headDim),
    int2: elements / 4 + 4 * (pageTokens + spec.headDim),
    far: 4 * spec.headDim,
  };
  return spec.layers * (spec.kvHeads * headBytes[name] + (name === 'far' ? 64 : 0));
}
