import {
  drawTruth,
  type GpuName,
  type GpuSheet,
  gpus,
  type SimulatedModel,
  type SimulatedModelName,
  simulatedModels,
  type Truth,
  weightBytes,
} from '../../engine/index.js';
import { Random } from '../random.js';
import { type KvPolicyName, kvBytesPerToken } from './kv-policies.js';

/** The machine that is simulated, and what runs on it: everything but the policy and the load. */
export interface Setup {
  readonly gpuName: GpuName;
  readonly gpu: GpuSheet;
  readonly truth: Truth;
  readonly model: SimulatedModel;
  readonly kvBytesPerToken: number;
  /** For K and V. */
  readonly kvBytes: number;
  /** For K and V that had to leave the device. */
  readonly hostBytes: number;
  readonly slots: number;
  readonly maxStepTokens: number;
}

export interface SetupOptions {
  readonly gpu: GpuName;
  readonly model: SimulatedModelName;
  readonly kv: KvPolicyName;
  readonly seed: number;
  readonly slots: number;
  readonly maxStepTokens: number;
  readonly hostBytes: number;
}

/** Part of the memory that is ours to use, as vLLM's default has it; of the rest live the driver and other processes. */
const usedShare = 0.9;
/** Activations of the largest step and the workspaces of kernels. */
const workspaceBytes = 1.5e9;

/** Throws a RangeError if the model does not fit. */
export function makeSetup(options: SetupOptions): Setup {
  const gpu: GpuSheet = gpus[options.gpu];
  const model: SimulatedModel = simulatedModels[options.model];
  const kvBytes = gpu.memoryBytes * usedShare - weightBytes(model) - workspaceBytes;
  if (kvBytes <= 0) {
    throw new RangeError(
      `${model.name} does not fit on one ${gpu.name}: its weights take ` +
        `${(weightBytes(model) / 1e9).toFixed(1)} of ${(gpu.memoryBytes / 1e9).toFixed(0)} GB`,
    );
  }
  return {
    gpuName: options.gpu,
    gpu,
    truth: drawTruth(gpu, new Random(options.seed)),
    model,
    kvBytesPerToken: kvBytesPerToken(model, options.kv),
    kvBytes,
    hostBytes: options.hostBytes,
    slots: options.slots,
    maxStepTokens: options.maxStepTokens,
  };
}
