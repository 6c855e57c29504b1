import { authorization } from '../shared/api-key.js';
import { errorOf, errorOfEvent, ServerError } from '../shared/server-error.js';
import { eventData } from './server-sent-events.js';

export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

/** What one event brings of a call: first who is called, then its arguments in pieces. */
export interface ToolCallDelta {
  readonly index: number;
  readonly id?: string;
  readonly function: { readonly name?: string; readonly arguments: string };
}

/** Adds what has come of calls. */
export function addToCalls(calls: ToolCall[], deltas: readonly ToolCallDelta[]): void {
  for (const {
    index,
    id = '',
    function: { name = '', arguments: json },
  } of deltas) {
    const call = calls[index];
    calls[index] = call
      ? { ...call, function: { name: call.function.name, arguments: call.function.arguments + json } }
      : { id, type: 'function', function: { name, arguments: json } };
  }
}

export interface ChosenToken {
  readonly token: string;
  readonly logprob: number;
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[];
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
}

/** What one event of a streamed answer brings. */
export interface ChatEvent {
  readonly text: string;
  readonly tokens: readonly ChosenToken[];
  readonly toolCalls: readonly ToolCallDelta[];
  readonly finishReason: string | null;
  readonly usage: Usage | undefined;
}

interface Chunk {
  readonly error?: { readonly message: string };
  readonly choices?: readonly {
    readonly delta: { readonly content?: string | null; readonly tool_calls?: readonly ToolCallDelta[] };
    readonly logprobs?: { readonly content?: readonly ChosenToken[] } | null;
    readonly finish_reason: string | null;
  }[];
  readonly usage?: Usage | null;
}

/** Asks for an answer and reads it as it comes. Throws `ServerError`, or `AbortError` when `signal` says so. */
export async function* streamChat(body: object, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  const response = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...authorization() },
    body: JSON.stringify(body),
    signal,
  }).catch((error: Error) => {
    throw error.name === 'AbortError' ? error : new ServerError(0, 'The server cannot be reached.');
  });
  if (!response.ok) throw await errorOf(response);
  for await (const data of eventData(response.body!)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw errorOfEvent(chunk.error);
    const choice = chunk.choices?.[0];
    yield {
      text: choice?.delta.content ?? '',
      tokens: choice?.logprobs?.content ?? [],
      toolCalls: choice?.delta.tool_calls ?? [],
      finishReason: choice?.finish_reason ?? null,
      usage: chunk.usage ?? undefined,
    };
  }
  throw new ServerError(0, 'The stream broke off before its end.');
}
