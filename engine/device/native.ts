import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { processorName } from '../../config/processor-name.js';
import { EngineError } from '../errors.js';
import { decoderPrefix } from '../model/expected-tensors.js';
import type { Checkpoint } from '../model/model-spec.js';
import type {
  CudaInfo,
  NativeAddon,
  NativeDevice,
  NativeDeviceOptions,
  NativeIsa,
  NativeVisionEncoder,
  NativeVisionOptions,
} from './addon.js';
import {
  type Device,
  type DeviceInfo,
  DeviceLostError,
  type EmbeddedRows,
  type FollowingStep,
  type KvPool,
  type Lane,
  pageClasses,
  type SlotSampling,
  type Step,
  type StepResult,
} from './device.js';
import { SwappedHandles } from './swapped-handles.js';

/** What of the device's options is a choice; the rest follows from the checkpoint. */
export type NativeDeviceSettings = Omit<NativeDeviceOptions, 'spec' | 'files' | 'tensors' | 'tensorPrefix'>;

export interface CpuInfo {
  readonly name: string;
  /** Cores this process may use. */
  readonly cores: number;
  /** Best first. */
  readonly isas: readonly NativeIsa[];
}

/** `KvPool.chunkPages` of any device. */
export function chunkPages(): number {
  return loadAddon().chunkPages;
}

export function cpuInfo(): CpuInfo {
  return { name: processorName(), ...loadAddon().cpuInfo() };
}

export type { CudaDevice, CudaInfo } from './addon.js';

/** For tools that work on checkpoints; serving multiplies on a device. */
export function multiplyMatrices(...args: Parameters<NativeAddon['multiply']>): void {
  loadAddon().multiply(...args);
}

export function cudaInfo(): CudaInfo {
  return loadAddon().cudaInfo();
}

/** Packs the checkpoint's weights and starts both lanes. Throws `EngineError('model_invalid')` if it is not sound. */
export async function openNativeDevice(
  checkpoint: Checkpoint,
  settings: NativeDeviceSettings,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => {},
): Promise<Device> {
  const { spec, files, tensors } = checkpoint;
  const tensorPrefix = decoderPrefix(spec);
  let native: NativeDevice;
  try {
    native = await loadAddon().openDevice({ ...settings, spec, files, tensors, tensorPrefix }, onProgress);
  } catch (error) {
    throw asInvalidModel(error);
  }
  const described = native.info();
  const info: DeviceInfo = { ...described, name: described.name || processorName(), spec };
  const swapped = new SwappedHandles((id) => native.kvDropSwapped(id));
  return {
    info,
    prefill: laneOf(native, 0),
    decode: laneOf(native, 1),
    kv: kvPoolOf(native, settings.kvPrecision, swapped),
    partition: (prefillUnits: number) => native.partition(prefillUnits),
    setVocabulary: (vocabulary) => native.setVocabulary(vocabulary),
    openGrammar: (tables) => native.openGrammar(tables),
    closeGrammar: (grammar) => native.closeGrammar(grammar),
    openSlot: (slot: number, sampling: SlotSampling, embedded: readonly EmbeddedRows[] = []) =>
      native.openSlot(slot, sampling, embedded),
    closeSlot: (slot: number) => native.closeSlot(slot),
    close: async () => {
      swapped.forgetAll();
      await native.close();
    },
  };
}

/** Makes rows of the decoder's embeddings of the tiles of images, on the processor, beside the device's steps. */
export type VisionEncoder = NativeVisionEncoder;

/**
 * Packs the weights of the checkpoint's vision tower. Takes as long as that takes. Throws `EngineError('model_invalid')` if
 * they are not sound; the checkpoint must have a `spec.vision`.
 */
export function openVisionEncoder(
  { spec, files, visionTensors }: Checkpoint,
  settings: Pick<NativeVisionOptions, 'isa' | 'checkFinite' | 'threads'>,
): VisionEncoder {
  if (!spec.vision) throw new Error('a model of text alone has no vision encoder');
  const { VisionEncoder: Encoder } = loadAddon();
  try {
    return new Encoder({
      ...settings,
      spec: spec.vision,
      decoderHidden: spec.hidden,
      files,
      tensors: visionTensors,
    });
  } catch (error) {
    throw asInvalidModel(error);
  }
}

function asInvalidModel(error: unknown): EngineError {
  return error instanceof EngineError ? error : new EngineError('model_invalid', (error as Error).message);
}

const noProbes = new Int32Array();
const nothingSparse = { pages: new Int32Array(), isSeen: new Uint8Array() };

function laneOf(native: NativeDevice, lane: 0 | 1): Lane {
  let followers = 0;
  return {
    run: async (step: Step): Promise<StepResult> => {
      const { slots, counts, tokens, wants, probes = noProbes, sparse = nothingSparse } = step;
      return told(native.run(lane, slots, counts, tokens, wants, probes, sparse.pages, sparse.isSeen));
    },
    follow: (slots: Int32Array): FollowingStep => {
      const number = ++followers;
      return {
        result: told(native.follow(lane, slots)),
        // Once there is another, this one has begun.
        withdraw: () => number === followers && native.withdraw(lane),
      };
    },
  };
}

/** Says by its type whether an error means that the device is lost. */
async function told<Result>(step: Promise<Result>): Promise<Result> {
  try {
    return await step;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw code === 'DEVICE_LOST' ? new DeviceLostError(message) : error;
  }
}

function kvPoolOf(native: NativeDevice, precision: KvPool['precision'], swapped: SwappedHandles): KvPool {
  return {
    ...native.kvInfo(),
    precision,
    freeBlocks: () => native.kvFreeBlocks(),
    freeFarBlocks: () => native.kvFreeFarBlocks(),
    compact: (blocks) => native.kvCompact(blocks),
    reserve: (slot, tokens, born = precision) => native.kvReserve(slot, tokens, pageClasses.indexOf(born)),
    length: (slot) => native.kvLength(slot),
    publish: (slot, index) => native.kvPublish(slot, index),
    attach: (slot, blocks, droppedTokens = 0) => native.kvAttach(slot, blocks, droppedTokens),
    unpublish: (blocks) => native.kvUnpublish(blocks),
    fork: (from, to, tokens) => native.kvFork(from, to, tokens),
    replace: (slot, index, block) => native.kvReplace(slot, index, block),
    convert: (slot, begin, end, classes) => native.kvConvert(slot, begin, end, classes),
    finishConversion: (slot) => native.kvFinishConversion(slot),
    dropConversion: (slot) => native.kvDropConversion(slot),
    drop: (slot, begin, end) => native.kvDrop(slot, begin, end),
    heldBytes: () => native.kvHeldBytes(),
    swapOut: async (slot) => swapped.add(await native.kvSwapOut(slot)),
    swapIn: async (slot, handle) => {
      const done = await native.kvSwapIn(slot, swapped.idOf(handle));
      if (done) swapped.forget(handle);
      return done;
    },
  };
}

function loadAddon(): NativeAddon {
  // From dist/engine/device/ to the package's root.
  const file = fileURLToPath(new URL('../../../build/native/tandem.node', import.meta.url));
  try {
    return createRequire(import.meta.url)(file) as NativeAddon;
  } catch (error) {
    throw new EngineError(
      'engine_failed',
      `The native addon could not be loaded (${(error as Error).message}). Run "npm run setup" to build it.`,
    );
  }
}
