/** The engine's public face: all that `server/`, `loadtest/` and the commands may know of it. */
export { EngineError, type EngineErrorCode } from './errors.js';
export type { ModelSpec } from './model/model-spec.js';
export type {
  ChatMessage,
  ChatTemplate,
  GenerationDefaults,
  Tokenizer,
  TokenStream,
} from './model/text.js';
export type {
  CacheStats,
  Engine,
  EngineInfo,
  EngineStats,
  FinishReason,
  GenerateRequest,
  SamplingParams,
  TokenEvent,
  TokenLogprob,
} from './types.js';
