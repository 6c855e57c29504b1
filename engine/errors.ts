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

export interface EngineErrorDetails {
  /** For `queue_full`, `shutting_down` and `device_unavailable`: when a retry may succeed. */
  readonly retryAfterSeconds?: number | undefined;
  readonly part?: RequestPart | undefined;
}

export class EngineError extends Error implements EngineErrorDetails {
  override readonly name = 'EngineError';
  readonly retryAfterSeconds: number | undefined;
  readonly part: RequestPart | undefined;

  constructor(
    readonly code: EngineErrorCode,
    message: string,
    { retryAfterSeconds, part }: EngineErrorDetails = {},
  ) {
    super(message);
    this.retryAfterSeconds = retryAfterSeconds;
    this.part = part;
  }
}

/** Wherever the request is then: still being prepared, or in the engine. */
export function deadlineExceeded(deadlineMs: number): EngineError {
  return new EngineError('deadline_exceeded', `The deadline of ${deadlineMs} ms has passed.`);
}
