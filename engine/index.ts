/** The engine's public face: all that `server/`, `loadtest/` and the commands may know of it. */
export { EngineError, type EngineErrorCode } from './errors.ts';
export type { ModelSpec } from './model/model-spec.ts';
export type {
  ChatMessage,
  ChatTemplate,
  GenerationDefaults,
  Tokenizer,
  TokenStream,
} from './model/text.ts';
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
} from './types.ts';
