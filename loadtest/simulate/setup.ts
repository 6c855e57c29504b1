import {
  drawTruth,
  type GpuName,
  type GpuSheet,
  gpus,
  type LanePolicy,
  type RandomSource,
  type SimulatedDevice,
  SimulatedGpu,
  type SimulatedModel,
  type SimulatedModelName,
  simulatedModels,
  weightBytes,
} from '../../engine/index.js';
import { Random } from '../random.js';
import { type KvPolicyName, kvBytesPerToken } from './kv-policies.js';
import { makePolicy, type OneDevicePolicyName, type PolicyOptions } from './policies.js';
import { hashedTokens } from './workloads/workload.js';

/** The device that is simulated, and what runs on it: everything but the choice of a policy, and the load. */
export interface Setup {
  /** For people. */
  readonly deviceName: string;
  readonly modelName: string;
  /** Compute units of the device. */
  readonly units: number;
  /** Bytes a second of its memory, and of copies that leave it. */
  readonly bandwidth: number;
  readonly hostBandwidth: number;
  /** A device of its own for each run; `random` is for what differs from step to step. */
  readonly openDevice: (random: RandomSource) => SimulatedDevice;
  /** The scheduler's side of it. A machine's policies follow its server's settings, and not `options`. */
  readonly openPolicy: (name: OneDevicePolicyName, options: PolicyOptions) => LanePolicy;
  /** Prompt and output together. */
  readonly contextLength: number;
  readonly kv: KvPolicyName;
  readonly kvBytesPerToken: number;
  /** For K and V. */
  readonly kvBytes: number;
  /** For K and V that had to leave the device. */
  readonly hostBytes: number;
  readonly cachesPrefixes: boolean;
  /** Of the prefix cache: tokens that are cached or not together. */
  readonly cachedBlockTokens: number;
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
  const truth = drawTruth(gpu, new Random(options.seed));
  return {
    deviceName: gpu.name,
    modelName: model.name,
    units: gpu.units,
    bandwidth: truth.bandwidth,
    hostBandwidth: truth.hostBandwidth,
    openDevice: (random) => new SimulatedGpu(model, truth, random),
    openPolicy: (name, policyOptions) => makePolicy(name, options.gpu, model, policyOptions),
    contextLength: model.contextLength,
    kv: options.kv,
    kvBytesPerToken: kvBytesPerToken(model, options.kv),
    kvBytes,
    hostBytes: options.hostBytes,
    cachesPrefixes: true,
    cachedBlockTokens: hashedTokens,
    slots: options.slots,
    maxStepTokens: options.maxStepTokens,
  };
}
