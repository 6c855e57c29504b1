import type { Response } from 'express';

/** Bytes that may wait in a connection before its requests are paused. */
const highWaterBytes = 256 * 1024;

/** Server-sent events on a response: `data: {json}`, and what to do when the reader is slow. */
export class EventStream {
  readonly #response: Response;

  constructor(response: Response, onBlocked: () => void, onDrained: () => void) {
    this.#response = response;
    response.status(200).set({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // Proxies that gather a response would make a stream of it no stream.
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    response.socket?.setNoDelay(true);
    this.#onBlocked = onBlocked;
    response.on('drain', onDrained);
  }

  readonly #onBlocked: () => void;

  /** One write for all of a step's events: `events` are complete JSON texts. */
  send(events: readonly string[]): void {
    if (events.length === 0 || this.#response.writableEnded) return;
    this.#response.write(`data: ${events.join('\n\ndata: ')}\n\n`);
    if (this.#response.writableLength > highWaterBytes) this.#onBlocked();
  }

  end(): void {
    this.#response.end();
  }

  /** Ends with `[DONE]`. */
  done(): void {
    this.#response.end('data: [DONE]\n\n');
  }
}
