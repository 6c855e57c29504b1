/**
 * The addon's whole surface (native/addon). Only `native.ts` imports this file. Arguments are trusted to have the
 * declared types; native still checks every index and length and throws an Error that names what is wrong.
 */

import type { GrammarTables } from '../grammar/tables.js';
import type { ModelSpec, TensorEntry, VisionSpec } from '../model/model-spec.js';
import type {
  BornClass,
  DeviceInfo,
  EmbeddedRows,
  GrammarHandle,
  HeldClass,
  SlotSampling,
  StepResult,
  VocabularyBytes,
} from './device.js';

export interface NativeAddon {
  /** What this process may use of the machine; `isas` best first. */
  cpuInfo(): { cores: number; isas: NativeIsa[] };
  /** Pages of a KV pool's own class that lie together and serve one class at a time: the same for every device. */
  readonly chunkPages: number;
  /** What is found of CUDA now. Never throws: what is wrong is said in `problem`. */
  cudaInfo(): CudaInfo;
  /** out = a b, or out += a b, in float64 on all cores; returns when it is done. */
  multiply(shape: ProductShape, a: Float64Array, b: Float64Array, out: Float64Array): void;
  /**
   * Maps the files, packs the weights and starts the lanes. `onProgress(done, total)` is called
   * with bytes of checkpoint read, at most a few hundred times, on the calling thread's event loop.
   */
  openDevice(
    options: NativeDeviceOptions,
    onProgress: (done: number, total: number) => void,
  ): Promise<NativeDevice>;
  /** Maps the files and packs the weights on the calling thread. Throws what `openDevice` rejects with. */
  readonly VisionEncoder: new (
    options: NativeVisionOptions,
  ) => NativeVisionEncoder;
}

export interface NativeVisionOptions {
  readonly spec: VisionSpec;
  /** Width of the rows that are made: the decoder's `hidden`. */
  readonly decoderHidden: number;
  readonly files: readonly string[];
  readonly tensors: readonly TensorEntry[];
  /** Forces an instruction set that this machine has; absent: the best. */
  readonly isa?: NativeIsa;
  /** Refuse weights that hold NaN or infinity. */
  readonly checkFinite: boolean;
  /** That encode a tile each. */
  readonly threads: number;
}

export interface NativeVisionEncoder {
  readonly weightBytes: number;
  /** Tiles that it encodes at a time, of one call or of several. */
  readonly threads: number;
  /**
   * pixels [tiles, 3, imageSize, imageSize], normalized, and not changed until this settles. Resolves to
   * [tiles * tokensPerTile, decoderHidden]. Computed tile by tile on threads of lower priority, in the order of the
   * calls; a tile's rows depend on its own pixels alone.
   */
  encode(pixels: Float32Array, tiles: number): Promise<Float32Array>;
  /** Rejects what is not done, waits for a layer at most, and frees the weights. Idempotent. */
  close(): void;
}

/** a [rows, depth], b [depth, cols], out [rows, cols]. Strides are in elements; out's columns are neighbours. */
export interface ProductShape {
  readonly rows: number;
  readonly cols: number;
  readonly depth: number;
  readonly aRowStride: number;
  readonly aColStride: number;
  readonly bRowStride: number;
  readonly bColStride: number;
  readonly outStride: number;
  readonly add: boolean;
}

export interface CudaInfo {
  /** Whether the addon was compiled with CUDA's headers. */
  readonly built: boolean;
  /** What its kernels were compiled for, as `90a`; empty without kernels. */
  readonly architectures: readonly string[];
  /** Versions of CUDA, such as "13.0"; empty where unknown. */
  readonly driverVersion: string;
  readonly runtimeVersion: string;
  /** Why there are no devices; else empty. */
  readonly problem: string;
  readonly devices: readonly CudaDevice[];
}

export interface CudaDevice {
  readonly name: string;
  readonly computeCapability: string;
  readonly memoryBytes: number;
  readonly l2Bytes: number;
  readonly sms: number;
  /** SMs of the smallest green context; 0 where there are none. */
  readonly smallestGroup: number;
  /** Why Tandem's kernels cannot run on it; else empty. */
  readonly problem: string;
  /** Why it has no green contexts, so that lanes would share it by streams; else empty. */
  readonly whyNoSplit: string;
}

export type NativeIsa = 'amx' | 'avx512' | 'avx512-vnni' | 'avx-vnni' | 'avx2' | 'portable';

export interface NativeDeviceOptions {
  readonly spec: ModelSpec;
  readonly files: readonly string[];
  readonly tensors: readonly TensorEntry[];
  /** What the names of all tensors but `lm_head.weight` begin with. */
  readonly tensorPrefix: string;
  readonly weights: 'bf16' | 'int8' | 'int4';
  readonly kvPrecision: BornClass;
  /** Bytes of the KV arena, allocated once. */
  readonly kvBytes: number;
  /** Bytes of host memory for far pages, allocated once; absent: there are none. */
  readonly farBytes?: number;
  /** Take less where the device has less left beside the weights; else that is an error. */
  readonly kvMayShrink: boolean;
  readonly slots: number;
  readonly maxStepTokens: number;
  /** Longest sequence; 0: as long as the KV arena allows. */
  readonly maxSequenceTokens: number;
  /**
   * What rows see of long sequences: the first pages, and the best of the packed ones behind them. Absent: all.
   * `afterDrop`: all too of those of which nothing was dropped.
   */
  readonly selection?: {
    readonly sinkPages: number;
    readonly topPages: number;
    readonly afterDrop: boolean;
  };
  readonly compute:
    | {
        readonly kind: 'cpu';
        /** Cores to use, 1 to all. */
        readonly cores: number;
        /** Forces an instruction set that this machine has; absent: the best. */
        readonly isa?: NativeIsa;
      }
    | { readonly kind: 'cuda'; readonly gpu: number; readonly memoryFraction: number };
  /** Refuse weights that hold NaN or infinity. */
  readonly checkFinite: boolean;
}

export interface NativeDevice {
  /** `name` is empty for a processor. */
  info(): Omit<DeviceInfo, 'spec'>;
  partition(prefillUnits: number): void;
  /**
   * lane 0: prefill, 1: decode. Rejects if a step of that lane is in flight. Columns as in `Step`; probes and sparse
   * entries may be empty. An error's `code` is `DEVICE_LOST` where the device can do nothing more for this process.
   */
  run(
    lane: 0 | 1,
    slots: Int32Array,
    counts: Int32Array,
    tokens: Int32Array,
    wants: Uint8Array,
    probes: Int32Array,
    sparsePages: Int32Array,
    isSeen: Uint8Array,
  ): Promise<StepResult>;
  /** Of a `FollowingStep`. */
  follow(lane: 0 | 1, slots: Int32Array): Promise<StepResult | null>;
  withdraw(lane: 0 | 1): boolean;
  setVocabulary(vocabulary: VocabularyBytes): void;
  openGrammar(tables: GrammarTables): GrammarHandle;
  closeGrammar(grammar: GrammarHandle): void;
  openSlot(slot: number, sampling: SlotSampling, embedded: readonly EmbeddedRows[]): void;
  closeSlot(slot: number): void;
  kvInfo(): {
    pageTokens: number;
    blockBytes: number;
    totalBlocks: number;
    /** For which there is host memory. */
    farBlocks: number;
    chunkPages: number;
    chunkBlocks: number;
    classBlockBytes: Record<HeldClass, number>;
  };
  kvFreeBlocks(): number;
  kvFreeFarBlocks(): number;
  kvCompact(blocks: number): boolean;
  /** The class as its place in `pageClasses`. */
  kvReserve(slot: number, tokens: number, precision: number): boolean;
  kvLength(slot: number): number;
  kvPublish(slot: number, index: number): number;
  kvAttach(slot: number, blocks: Int32Array, droppedTokens: number): void;
  kvUnpublish(blocks: Int32Array): void;
  kvFork(from: number, to: number, tokens: number): boolean;
  kvReplace(slot: number, index: number, block: number): void;
  /** Null if memory is out. Classes as in `KvPool.convert`. */
  kvConvert(slot: number, begin: number, end: number, classes: Uint8Array): Promise<void> | null;
  kvFinishConversion(slot: number): void;
  kvDropConversion(slot: number): void;
  kvDrop(slot: number, begin: number, end: number): void;
  kvHeldBytes(): Record<HeldClass, number>;
  /** The id is valid until `kvSwapIn` resolves to true or `kvDropSwapped`. */
  kvSwapOut(slot: number): Promise<{ id: number; tokens: number; bytes: number }>;
  kvSwapIn(slot: number, id: number): Promise<boolean>;
  /** Does nothing on a closed device. */
  kvDropSwapped(id: number): void;
  /** Resolves when both lanes have ended and memory is free. Idempotent. */
  close(): Promise<void>;
}
