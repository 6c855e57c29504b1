import { WebSocket } from 'ws';
import {
  type CompletionRequest,
  completionFields,
  type StreamOptions,
  type Trace,
} from './completion-stream.js';
import type { Target } from './target.js';

/** The part of a frame of `WS /v1/stream` that is looked at. */
interface Frame {
  readonly type: 'delta' | 'done' | 'error';
  readonly text?: string;
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly error?: { readonly message?: string };
}

/** Resolves when it is open. Rejects with an Error that says what the server answered instead. */
export function openSocket(target: Target): Promise<WebSocket> {
  const url = new URL('/v1/stream', target.url);
  url.protocol = url.protocol.replace('http', 'ws');
  const headers = target.apiKey === undefined ? {} : { authorization: `Bearer ${target.apiKey}` };
  const socket = new WebSocket(url, { headers, perMessageDeflate: false });
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve(socket));
    socket.once('error', (error) => reject(new Error(`${url.href}: ${error.message}`)));
  });
}

/** What `streamCompletion` does, over a socket of its own. Never rejects. */
export async function streamOverSocket(
  target: Target,
  request: CompletionRequest,
  { dueAt = performance.now(), signal, onPiece }: StreamOptions = {},
): Promise<Trace> {
  const pieceTimes: number[] = [];
  let usage = { prompt_tokens: 0, completion_tokens: 0 };
  let error: string | undefined;
  try {
    const socket = await openSocket(target);
    const closed = new Promise<void>((resolve) => socket.once('close', resolve));
    const close = (): void => socket.close();
    signal?.addEventListener('abort', close);
    if (signal?.aborted) close();
    error = 'the socket was closed before the stream had ended';
    socket.on('error', (failure) => {
      error = failure.message;
    });
    socket.on('message', (data) => {
      const at = performance.now();
      const frame = JSON.parse(String(data)) as Frame;
      if (frame.type === 'delta' && frame.text) {
        pieceTimes.push(at);
        onPiece?.(at, frame.text);
      } else if (frame.type !== 'delta') {
        if (frame.usage) usage = frame.usage;
        error = frame.type === 'error' ? (frame.error?.message ?? 'the stream failed') : undefined;
        close();
      }
    });
    socket.send(JSON.stringify({ type: 'generate', id: 'stream', request: completionFields(request) }));
    await closed;
    signal?.removeEventListener('abort', close);
  } catch (failure) {
    error = (failure as Error).message;
  }
  return {
    dueAt,
    pieceTimes,
    endedAt: performance.now(),
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    ...(error !== undefined && !signal?.aborted && { error }),
  };
}
