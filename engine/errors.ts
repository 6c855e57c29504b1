/** What the engine refuses, and why. `server/openai/errors.ts` maps each code to a status. */
export type EngineErrorCode =
  | 'invalid_request'
  | 'context_length_exceeded'
  | 'queue_full'
  | 'deadline_exceeded'
  | 'shutting_down'
  | 'engine_failed'
  | 'device_unavailable'
  | 'model_invalid';

/** What of a request is at fault. */
export type RequestPart = 'prompt' | 'maxTokens';

export class EngineError extends Error {
  override readonly name = 'EngineError';

  constructor(
    readonly code: EngineErrorCode,
    message: string,
    /** For `queue_full` and `device_unavailable`: when a retry may succeed. */
    readonly retryAfterSeconds?: number,
    readonly part?: RequestPart,
  ) {
    super(message);
  }
}
