/**
 * The engine's public face: all that `server/`, `loadtest/` and the commands may know of it, but for the converters
 * (`convert/index.ts`). Threads that need a part of it load that alone: `prompts.ts`, `errors.ts`.
 */
export { type Calibration, calibrate } from './calibration/calibrate.js';
export { openCalibrationDevice } from './calibration/open-calibration-device.js';
export { type LoadedConstants, loadConstants, saveConstants } from './calibration/stored-constants.js';
export { chooseDevice, type DeviceChoice } from './choose-device.js';
export { openEngine } from './client.js';
export { architectureName, howToBuild, whyNotOn } from './device/cuda-kernels.js';
export {
  type BornClass,
  type Device,
  type Lane,
  operatorClasses,
  type Step,
  type StepResult,
  Want,
} from './device/device.js';
export { type CudaDevice, type CudaInfo, cpuInfo, cudaInfo } from './device/native.js';
export { CopyLink } from './device/simulated/copy-link.js';
export { type GpuName, type GpuSheet, gpus } from './device/simulated/gpu.js';
export {
  type SimulatedModel,
  type SimulatedModelName,
  simulatedModels,
  weightBytes,
} from './device/simulated/model.js';
export { SimulatedSequence } from './device/simulated/sequence.js';
export type { SimulatedDevice } from './device/simulated/simulated-device.js';
export { SimulatedGpu } from './device/simulated/simulated-gpu.js';
export { SimulatedMemory } from './device/simulated/simulated-memory.js';
export { Timeline } from './device/simulated/timeline.js';
export { drawTruth, type RandomSource, type Truth } from './device/simulated/truth.js';
export { EngineError, type EngineErrorCode } from './errors.js';
export {
  type CompiledGrammar,
  compileGrammar,
  grammarKey,
  InvalidGrammar,
} from './grammar/compile.js';
export { type CompileReply, type CompileSettings, compileThread } from './grammar/compile-reply.js';
export type { GrammarPart, GrammarSource } from './grammar/source.js';
export { PackingRule } from './kv/packing-rule.js';
export { byAttention, byScore, chooseClasses, followedBy, type PackedForm } from './kv/page-classes.js';
export { pageTokens } from './kv/page-tokens.js';
export { PartitionRule } from './kv/partition-rule.js';
export { Saliency } from './kv/saliency.js';
export { PrefillSight, type SeenPages, SparsePrefill } from './kv/sparse-prefill.js';
export { readCheckpoint } from './model/checkpoint.js';
export type { Checkpoint, ModelSpec, VisionSpec } from './model/model-spec.js';
export { fromBf16, toBf16, toF16 } from './model/number-formats.js';
export { packedWeightBytes, visionWeightBytes } from './model/weight-bytes.js';
export { packingRule, sparsePrefill } from './open-device.js';
export type { EngineListeners } from './open-local-engine.js';
export { openDevice } from './open-model-device.js';
export * from './prompts.js';
export { greedySampling } from './sampling/greedy.js';
export { codePointsIn } from './sampling/logprobs.js';
export { correctedModel } from './scheduler/corrected-model.js';
export type { DeviceConstants } from './scheduler/device-constants.js';
export { type ModelSizes, modelWork } from './scheduler/model-work.js';
export { aim } from './scheduler/objectives.js';
export { ChunkedPolicy } from './scheduler/policies/chunked.js';
export { NexusPolicy, nexusDefaults } from './scheduler/policies/nexus.js';
export { PrefillFirstPolicy } from './scheduler/policies/prefill-first.js';
export { ReactivePolicy } from './scheduler/policies/reactive.js';
export { StaticPolicy } from './scheduler/policies/static.js';
export type { Explanation, FinishedStep, LanePolicy } from './scheduler/policy.js';
export type { PrefillOrder } from './scheduler/prefill-queue.js';
export { preset } from './scheduler/presets.js';
export { Scheduler } from './scheduler/scheduler.js';
export { splitsOf } from './scheduler/splits.js';
export { StepLoad } from './scheduler/step-load.js';
export type { Lane as LaneName, StepPlan } from './scheduler/work.js';
export { openSimulatedMachine, type SimulatedMachine } from './simulated-machine.js';
export type {
  CacheStats,
  Engine,
  EngineInfo,
  EngineStats,
  FinishReason,
  GenerateRequest,
  ImageStats,
  KvUsage,
  PolicyChange,
  PromptImage,
  SamplingParams,
  SchedulerReport,
  TokenEvent,
  TokenLogprob,
  Usage,
} from './types.js';
