import { EngineError, type EngineErrorCode, type RequestPart } from '../../engine/errors.js';

/** An error as a client sees it. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
    readonly details: { param?: string; code?: string; retryAfterSeconds?: number } = {},
  ) {
    super(message);
  }
}

export function invalidRequest(message: string, param?: string, code?: string): ApiError {
  return new ApiError(400, 'invalid_request_error', message, {
    ...(param && { param }),
    ...(code && { code }),
  });
}

/** The one table of what the engine refuses and how that is said over HTTP. */
const engineErrors: Record<EngineErrorCode, { status: number; type: string; code: string | null }> = {
  invalid_request: { status: 400, type: 'invalid_request_error', code: null },
  context_length_exceeded: { status: 400, type: 'invalid_request_error', code: 'context_length_exceeded' },
  queue_full: { status: 429, type: 'rate_limit_error', code: 'queue_full' },
  deadline_exceeded: { status: 408, type: 'timeout_error', code: 'deadline_exceeded' },
  shutting_down: { status: 503, type: 'service_unavailable_error', code: 'shutting_down' },
  engine_failed: { status: 500, type: 'server_error', code: 'engine_failed' },
  device_unavailable: { status: 503, type: 'service_unavailable_error', code: 'device_unavailable' },
  model_invalid: { status: 503, type: 'service_unavailable_error', code: 'model_invalid' },
};

/** What a body calls the parts of a request. */
export type PartNames = Readonly<Record<RequestPart, string>>;

/** Any thrown value as an `ApiError`. What is not ours shows no detail. */
export function toApiError(error: unknown, names?: PartNames): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineError) {
    const { status, type, code } = engineErrors[error.code];
    const retryAfterSeconds = error.retryAfterSeconds ?? (status === 503 ? 5 : undefined);
    return new ApiError(status, type, error.message, {
      ...(error.part && names && { param: names[error.part] }),
      ...(code && { code }),
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    });
  }
  return (
    fromHttpError(error) ?? new ApiError(500, 'server_error', 'The server failed to answer this request.')
  );
}

/** What `action` returns; what the engine's own code refuses of a part is an `ApiError` that calls it by its name. */
export function namingParts<T>(names: PartNames, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw error instanceof EngineError ? toApiError(error, names) : error;
  }
}

/** Errors of the body parser have a status of their own. */
function fromHttpError(error: unknown): ApiError | undefined {
  if (!(error instanceof Error) || !('status' in error) || typeof error.status !== 'number') return undefined;
  if (error.status === 413 && 'limit' in error) return bodyTooLarge(Number(error.limit));
  if (error.status >= 400 && error.status < 500) {
    return new ApiError(error.status, 'invalid_request_error', error.message);
  }
  return undefined;
}

/** Whoever asked has left, and will not see this. */
export function clientLeft(): ApiError {
  return new ApiError(499, 'client_left', 'The client has left.');
}

export function bodyTooLarge(limitBytes: number): ApiError {
  const message = `The request body is too large. The limit is ${limitBytes} bytes (--body-limit).`;
  return new ApiError(413, 'invalid_request_error', message, { code: 'body_too_large' });
}

/** The error object of the wire. */
export function errorBody(error: ApiError): object {
  const { param, code } = error.details;
  return { error: { message: error.message, type: error.type, param: param ?? null, code: code ?? null } };
}
