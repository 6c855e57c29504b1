import { errorMessage, readText, send } from './http.js';
import { SseParser } from './sse-parser.js';
import type { Target } from './target.js';

export interface CompletionRequest {
  readonly model: string;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** Further fields of the body. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** What one request met. Times are milliseconds of `performance.now()`. */
export interface Trace {
  /** When the request was due; earlier than it was sent if the client could not keep up. */
  readonly dueAt: number;
  /** When each piece of text arrived; the server sends one a token, unless its text is withheld. */
  readonly pieceTimes: readonly number[];
  readonly endedAt: number;
  /** As the server counted them. */
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Why it failed, or absent. A failed request counts as such, not with the times it reached. */
  readonly error?: string;
}

/** The part of a stream's chunk that is looked at. */
interface Chunk {
  readonly choices?: readonly { readonly text?: string }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: { readonly message?: string };
}

export interface StreamOptions {
  readonly dueAt?: number;
  /** Ends the request early; what it reached is its trace. */
  readonly signal?: AbortSignal;
  readonly onPiece?: (at: number, text: string) => void;
}

/** How a stream is asked for: over HTTP or over a socket. */
export type Streaming = (
  target: Target,
  request: CompletionRequest,
  options?: StreamOptions,
) => Promise<Trace>;

/** Sends a streaming completion that runs to its last token, and notes when each piece arrives. Never rejects. */
export async function streamCompletion(
  target: Target,
  request: CompletionRequest,
  { dueAt = performance.now(), signal, onPiece }: StreamOptions = {},
): Promise<Trace> {
  const pieceTimes: number[] = [];
  let usage = { prompt_tokens: 0, completion_tokens: 0 };
  let finished = false;
  const ended = (error?: string): Trace => ({
    dueAt,
    pieceTimes,
    endedAt: performance.now(),
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    ...(error !== undefined && { error }),
  });
  try {
    const response = await send({
      target,
      method: 'POST',
      path: '/v1/completions',
      body: bodyOf(request),
      ...(signal && { signal }),
    });
    if (response.statusCode !== 200) {
      return ended(`${response.statusCode} ${errorMessage(await readText(response))}`);
    }
    const parser = new SseParser();
    for await (const bytes of response) {
      const at = performance.now();
      for (const data of parser.push(bytes as Buffer)) {
        if (data === '[DONE]') {
          finished = true;
          continue;
        }
        const chunk = JSON.parse(data) as Chunk;
        if (chunk.error) return ended(chunk.error.message ?? 'the stream ended with an error');
        if (chunk.usage) usage = chunk.usage;
        const text = chunk.choices?.[0]?.text;
        if (text) {
          pieceTimes.push(at);
          onPiece?.(at, text);
        }
      }
    }
    return ended(finished ? undefined : 'the stream ended without [DONE]');
  } catch (error) {
    return ended(signal?.aborted ? undefined : (error as Error).message);
  }
}

function bodyOf(request: CompletionRequest): string {
  return JSON.stringify({
    ...completionFields(request),
    stream: true,
    stream_options: { include_usage: true },
  });
}

/** As `POST /v1/completions` and a `generate` frame have them. */
export function completionFields({ model, prompt, maxTokens, more }: CompletionRequest): object {
  return { model, prompt, max_tokens: maxTokens, ignore_eos: true, temperature: 0, ...more };
}
