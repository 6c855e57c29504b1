/** The engine's public face: all that `server/`, `loadtest/` and the commands may know of it. */
export { type Calibration, calibrate } from './calibration/calibrate.js';
export { openCalibrationDevice } from './calibration/open-calibration-device.js';
export { type LoadedConstants, loadConstants, saveConstants } from './calibration/stored-constants.js';
export { openEngine } from './client.js';
export {
  type Device,
  type Lane,
  operatorClasses,
  type Step,
  type StepResult,
  Want,
} from './device/device.js';
export { cpuInfo } from './device/native.js';
export { EngineError, type EngineErrorCode } from './errors.js';
export { openChatTemplate } from './model/chat-template.js';
export { readCheckpoint } from './model/checkpoint.js';
export { readGenerationDefaults } from './model/generation-defaults.js';
export type { Checkpoint, ModelSpec } from './model/model-spec.js';
export type {
  ChatMessage,
  ChatTemplate,
  GenerationDefaults,
  Tokenizer,
  TokenStream,
} from './model/text.js';
export { openTokenizer } from './model/tokenizer.js';
export { openDevice } from './open-device.js';
export type { EngineListeners } from './open-local-engine.js';
export type { DeviceConstants } from './scheduler/device-constants.js';
export type { Explanation } from './scheduler/policy.js';
export type {
  CacheStats,
  Engine,
  EngineInfo,
  EngineStats,
  FinishReason,
  GenerateRequest,
  SamplingParams,
  SchedulerReport,
  TokenEvent,
  TokenLogprob,
  Usage,
} from './types.js';
