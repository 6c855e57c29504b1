/** What the server refused, or why it was not reached. */
export class ServerError extends Error {
  override readonly name = 'ServerError';

  constructor(
    /** 0: there was no answer, or it broke off. */
    readonly status: number,
    message: string,
    readonly details: {
      readonly param?: string | undefined;
      readonly code?: string | undefined;
      readonly retryAfterSeconds?: number | undefined;
      readonly requestId?: string | undefined;
    } = {},
  ) {
    super(message);
  }
}

interface ErrorObject {
  readonly message: string;
  readonly param?: string | null;
  readonly code?: string | null;
}

/** The error of an answer that is none of 2xx. */
export async function errorOf(response: Response): Promise<ServerError> {
  const text = await response.text().catch(() => '');
  const { headers, status, statusText } = response;
  const retryAfter = Number(headers.get('retry-after') ?? Number.NaN);
  const requestId = headers.get('x-request-id') ?? undefined;
  const body = parse(text);
  return new ServerError(status, body?.message ?? (text || statusText), {
    param: body?.param ?? undefined,
    code: body?.code ?? undefined,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
    requestId,
  });
}

/** The error object of an event in a stream. */
export function errorOfEvent({ message, param, code }: ErrorObject): ServerError {
  return new ServerError(0, message, { param: param ?? undefined, code: code ?? undefined });
}

function parse(text: string): ErrorObject | undefined {
  try {
    return (JSON.parse(text) as { error?: ErrorObject }).error;
  } catch {
    return undefined;
  }
}
