import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { TokenEvent } from '../engine/index.js';
import { Generation } from './generation.js';
import { ApiError, errorBody, invalidRequest, toApiError } from './openai/errors.js';
import { chatLogprobs } from './openai/logprobs.js';
import { parseBody } from './openai/parse.js';
import { usageBody } from './openai/usage.js';
import type { Service } from './service.js';
import { SocketLink } from './socket-link.js';
import { PieceStream } from './stream-pieces.js';
import { ClientFrame, type ServerFrame } from './stream-protocol.js';

const streamsPerSocket = 256;

type DeltaFrame = Extract<ServerFrame, { type: 'delta' }>;
type DoneFrame = Extract<ServerFrame, { type: 'done' }>;

interface Stream {
  readonly generations: Generation[];
  readonly window: number;
  unacknowledged: number;
  /**
   * What is beyond the window, in order. The engine hears of a pause a few steps late, and more so when this thread is
   * busy; a client that gave a window must not notice.
   */
  readonly held: (DeltaFrame | DoneFrame)[];
}

/** A socket of `WS /v1/stream` and its streams. */
export class StreamSocket {
  readonly #streams = new Map<string, Stream>();
  readonly #link: SocketLink;

  constructor(
    socket: WebSocket,
    private readonly service: Service,
  ) {
    this.#link = new SocketLink(socket, service, {
      onFrame: (data) => void this.#onFrame(data),
      onBlocked: () => {
        for (const { generations } of this.#streams.values()) for (const one of generations) one.pause();
      },
      onDrained: () => {
        for (const stream of this.#streams.values()) {
          if (stream.unacknowledged < stream.window) for (const one of stream.generations) one.resume();
        }
      },
      onClose: () => {
        for (const { generations } of this.#streams.values()) for (const one of generations) one.cancel();
        this.#streams.clear();
      },
    });
  }

  async #onFrame(data: Buffer): Promise<void> {
    let id: string | null = null;
    try {
      const frame = parseBody(ClientFrame, data);
      id = frame.id;
      switch (frame.type) {
        case 'generate':
          await this.#generate(frame);
          break;
        case 'cancel':
          this.#end(frame.id, (generation) => generation.cancel());
          break;
        case 'ack':
          this.#acknowledge(frame.id, frame.count);
          break;
        case 'update':
          throw invalidRequest("'update' needs an endless session, which is not supported yet.", 'type');
      }
    } catch (error) {
      this.#fail(id, error);
    }
  }

  async #generate(frame: Extract<ClientFrame, { type: 'generate' }>): Promise<void> {
    const { id, request, window } = frame;
    if (this.#streams.has(id))
      throw invalidRequest(`A request with the id '${id}' is running on this socket.`, 'id');
    if (this.#streams.size >= streamsPerSocket) {
      throw new ApiError(429, 'rate_limit_error', `A socket takes ${streamsPerSocket} requests at once.`);
    }
    const stream: Stream = {
      generations: [],
      window: window ?? Number.POSITIVE_INFINITY,
      unacknowledged: 0,
      held: [],
    };
    this.#streams.set(id, stream);
    try {
      const { preparer } = this.service.model;
      const kind = 'messages' in request ? 'chat' : 'completion';
      const prepared = await preparer.prepare(
        kind,
        Buffer.from(JSON.stringify({ ...request, stream: true })),
      );
      if (prepared.prompts.length > 1) throw invalidRequest('Send one prompt a request.', 'request.prompt');
      // Cancelled, or the socket closed, while it was prepared.
      if (this.#streams.get(id) !== stream) return;
      const prompt = prepared.prompts[0]!;
      const pieces = new PieceStream(prepared, prompt, 0);
      const reasons: string[] = [];
      const engineId = `stream-${randomUUID()}`;
      const generation = new Generation(this.service, { ...prompt.request, id: engineId }, (events) =>
        this.#onEvents(id, stream, pieces, reasons, events),
      );
      stream.generations.push(generation);
      generation.start();
    } catch (error) {
      this.#streams.delete(id);
      throw error;
    }
  }

  #onEvents(
    id: string,
    stream: Stream,
    pieces: PieceStream,
    reasons: string[],
    events: readonly TokenEvent[],
  ): void {
    for (const { index, text, finishReason, logprobs } of pieces.next(events)) {
      if (finishReason !== null) {
        reasons[index] = finishReason;
        continue;
      }
      stream.held.push({
        type: 'delta',
        id,
        choice: index,
        text,
        ...(logprobs && { logprobs: chatLogprobs(logprobs) }),
      });
    }
    const last = events.at(-1);
    if (last?.type === 'error') {
      this.#fail(id, last.error);
      return;
    }
    if (last?.type === 'done') {
      stream.held.push({ type: 'done', id, finish_reasons: reasons, usage: usageBody([last.usage]) });
    }
    this.#sendHeld(stream);
    if (stream.unacknowledged >= stream.window) {
      for (const generation of stream.generations) generation.pause();
    }
  }

  /** Sends as many deltas as the window allows, and the end of the stream behind the last one. */
  #sendHeld(stream: Stream): void {
    let sent = 0;
    for (const frame of stream.held) {
      if (frame.type === 'delta' && stream.unacknowledged >= stream.window) break;
      if (frame.type === 'delta') stream.unacknowledged++;
      else this.#streams.delete(frame.id);
      this.#send(frame);
      sent++;
    }
    stream.held.splice(0, sent);
  }

  #acknowledge(id: string, count: number): void {
    const stream = this.#streams.get(id);
    if (!stream) return; // it may have just ended
    stream.unacknowledged = Math.max(0, stream.unacknowledged - count);
    this.#sendHeld(stream);
    if (stream.unacknowledged < stream.window && !this.#link.isBlocked) {
      for (const generation of stream.generations) generation.resume();
    }
  }

  #end(id: string, how: (generation: Generation) => void): void {
    const stream = this.#streams.get(id);
    this.#streams.delete(id);
    for (const generation of stream?.generations ?? []) how(generation);
  }

  #fail(id: string | null, error: unknown): void {
    if (id !== null) this.#end(id, (generation) => generation.cancel());
    this.#send({ type: 'error', id, ...(errorBody(toApiError(error)) as { error: object }) });
  }

  #send(frame: ServerFrame): void {
    this.#link.send(frame);
  }
}
