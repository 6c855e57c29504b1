import path from 'node:path';
import type { Device, DeviceInfo } from './device/device.js';
import { cpuInfo, openVisionEncoder } from './device/native.js';
import { LocalEngine } from './engine.js';
import { EngineError } from './errors.js';
import { vocabularyBytes } from './grammar/vocabulary-bytes.js';
import { ImageStore } from './images/image-store.js';
import { packingRoom } from './kv/packing-room.js';
import type { PartitionRule } from './kv/partition-rule.js';
import { mostBlocks, partitionRoom } from './kv/sequence-partitions.js';
import type { ImageDescription, ModelDescription } from './model/description.js';
import type { Checkpoint } from './model/model-spec.js';
import { openTokenizer } from './model/tokenizer.js';
import { openWeights } from './model/weights.js';
import {
  cpuUnits,
  type DeviceSettings,
  largestClass,
  openDeviceFor,
  packingRule,
  partitionRule,
  pressureRule,
  sparsePrefill,
} from './open-device.js';
import { constantsFor, openScheduling } from './open-scheduling.js';
import type { Explanation } from './scheduler/policy.js';
import type { EngineInfo } from './types.js';

/** Tokens of a sequence that is held in partitions: what is left to bound is the list of its token ids. */
const longestSession = 2 ** 24;

/** Who wants to know what. */
export interface EngineListeners {
  /** Bytes of the checkpoint that are loaded, of all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Each choice of the scheduler between ways to share the device. */
  readonly onDecision?: (decision: Explanation) => void;
}

/** Loads model and device in the calling thread. */
export async function openLocalEngine(
  settings: DeviceSettings,
  description: ModelDescription,
  { onProgress, onDecision }: EngineListeners = {},
): Promise<LocalEngine> {
  const { model, engine } = settings;
  const begin = performance.now();
  const packing = packingRule(engine);
  const pressure = pressureRule(engine);
  const partitions = partitionRule(engine);
  const folder = path.resolve(model.path);
  // The small files first: what is wrong with them should not show only after minutes of loading.
  const tokenizer = await openTokenizer(folder);
  const { spec, generation } = description;
  const checkpoint = await openWeights(folder, description);
  const { device, notes } = await openDeviceFor(checkpoint, settings, onProgress);
  if (tokenizer.vocabSize > spec.vocab) {
    await device.close();
    throw new EngineError(
      'model_invalid',
      `${folder}: the tokenizer has ${tokenizer.vocabSize} tokens, the model's vocabulary ${spec.vocab}.`,
    );
  }
  device.setVocabulary(vocabularyBytes(tokenizer, generation.eosTokenIds));
  const images = description.images && (await openImages(checkpoint, description.images, settings, device));
  const { kv } = device;
  const forms = packing ? [packing.form] : pressure?.rungs;
  if (partitions) await checkHolds(device, partitions);
  const capacity = (kv.totalBlocks - (forms ? packingRoom(kv, forms) : 0)) * kv.pageTokens;
  const info: EngineInfo = {
    model: model.servedModelName ?? path.basename(folder),
    spec,
    contextLength: Math.min(
      engine.contextLength ?? Number.POSITIVE_INFINITY,
      partitions ? longestSession : Math.min(spec.contextLength, capacity),
    ),
    eosTokenIds: generation.eosTokenIds,
    device: {
      kind: device.info.kind,
      name: device.info.name,
      isa: device.info.isa,
      units: device.info.units,
      notes,
    },
    weights: model.weights,
    kvPrecision: engine.kv === 'zip' || engine.kv === 'pack' ? engine.kv : largestClass(engine),
    weightBytes: device.info.weightBytes + (images?.weightBytes ?? 0),
    kvBytes: device.info.kvBytes,
    kvBytesPerToken: kv.classBlockBytes[largestClass(engine)] / kv.pageTokens,
  };
  const loaded = constantsFor(settings, device.info);
  let current = engine;
  return new LocalEngine({
    device,
    tokenizer,
    info,
    images,
    prefixCache: engine.prefixCache,
    packing,
    pressure,
    sparse: sparsePrefill(engine, spec),
    partitions,
    swapBytes: engine.swapMemory,
    ...openScheduling(settings, device.info, loaded),
    reopenScheduling: (change) => {
      current = { ...current, ...change };
      return openScheduling({ model, engine: current }, device.info, loaded);
    },
    prefillOrder: engine.prefillOrder,
    plansAhead: hasCoreToSpare(device.info),
    reopenSeconds: Math.max(1, Math.ceil((performance.now() - begin) / 1000)),
    maxQueue: engine.maxQueue,
    queueTimeoutMs: engine.queueTimeoutMs,
    now: () => performance.now(),
    ...(onDecision && { onDecision }),
  });
}

/** What makes rows of images; the device is closed where it cannot be opened. */
async function openImages(
  checkpoint: Checkpoint,
  { vision, processing }: ImageDescription,
  { model, engine }: DeviceSettings,
  device: Device,
): Promise<ImageStore> {
  try {
    const { checkFinite } = model;
    const encoder = openVisionEncoder(checkpoint, {
      checkFinite,
      threads: cpuUnits(engine),
      ...(engine.isa && { isa: engine.isa }),
    });
    const { hidden } = checkpoint.spec;
    return new ImageStore({ encoder, vision, processing, hidden, capacityBytes: engine.imageMemory });
  } catch (error) {
    await device.close();
    throw error;
  }
}

/**
 * Whether there is something for this thread to run on while the device computes. Where all cores compute, what it does
 * beside a step is taken from that step, and from whoever brings a request meanwhile.
 */
function hasCoreToSpare({ kind, units }: DeviceInfo): boolean {
  return kind !== 'cpu' || units < cpuInfo().cores;
}

/** Refuses partitions that the memory cannot hold once. */
async function checkHolds(device: Device, rule: PartitionRule): Promise<void> {
  const { kv } = device;
  const blocks = mostBlocks(kv, rule, longestSession) + partitionRoom(kv, rule);
  if (blocks <= kv.totalBlocks) return;
  await device.close();
  throw new EngineError(
    'invalid_request',
    `The partitions of one sequence under --kv pack take up to ${blocks * kv.blockBytes} bytes, and the KV cache has ` +
      `${kv.totalBlocks * kv.blockBytes}. Lower --pack-mid-tokens, --pack-far-tokens or --pack-recent-tokens, or raise --kv-memory.`,
  );
}
