import type { Response } from 'express';
import { type ApiError, toApiError } from './openai/errors.js';
import type { PromptRun } from './prompt-run.js';
import type { Service } from './service.js';
import type { AnswerEvent } from './tools/tool-call-events.js';

/** Bytes that may wait in a connection before its requests are paused. */
const highWaterBytes = 256 * 1024;

/** An event as it stands in the stream, without the blank line that ends it. */
export type EventText = string;

export const doneEvent: EventText = 'data: [DONE]';

export function dataEvent(json: string): EventText {
  return `data: ${json}`;
}

export function namedEvent(event: { readonly type: string }): EventText {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}`;
}

/** What one kind of stream says; how streams run, pause and fail is the same for all. */
export interface StreamScript {
  opening(): EventText[];
  step(prompt: number, events: readonly AnswerEvent[]): EventText[];
  closing(): EventText[];
  failure(error: ApiError): EventText[];
}

/**
 * Runs prompts and answers with server-sent events. The stream is opened by the first step that has something to show,
 * so that a refusal still has its status: then this rejects.
 */
export async function streamEvents(
  service: Service,
  response: Response,
  run: PromptRun,
  script: StreamScript,
): Promise<void> {
  let stream: EventStream | undefined;
  const open = (): EventStream => {
    if (stream) return stream;
    stream = new EventStream(response, run);
    stream.send(script.opening());
    return stream;
  };
  try {
    await run.run((prompt, events) => {
      const shown = script.step(prompt, events);
      if (shown.length > 0) open().send(shown);
    });
  } catch (error) {
    if (!stream) throw error;
    const apiError = toApiError(error);
    service.logger.warn({ id: run.id, err: apiError.message }, 'a stream ended with an error');
    stream.send(script.failure(apiError));
    stream.end();
    return;
  }
  if (response.destroyed) return;
  open().send(script.closing());
  open().end();
}

/** Server-sent events on a response, and what to do when the reader is slow. */
class EventStream {
  constructor(
    private readonly response: Response,
    private readonly run: PromptRun,
  ) {
    response.status(200).set({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // Proxies that gather a response would make a stream of it no stream.
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    response.socket?.setNoDelay(true);
    response.on('drain', () => run.resume());
  }

  /** One write for all of a step's events. */
  send(events: readonly EventText[]): void {
    if (events.length === 0 || this.response.writableEnded) return;
    this.response.write(`${events.join('\n\n')}\n\n`);
    if (this.response.writableLength > highWaterBytes) this.run.pause();
  }

  end(): void {
    this.response.end();
  }
}
