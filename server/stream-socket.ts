import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { ApiKey } from './keys/api-key.js';
import { ApiError, errorBody, invalidRequest, toApiError } from './openai/errors.js';
import { chatLogprobs } from './openai/logprobs.js';
import { checked, parseJson } from './openai/parse.js';
import { usageBody } from './openai/usage.js';
import { chatToolCallDelta } from './openai/wire-format.js';
import type { Prepared } from './prepare/prepared.js';
import { PromptRun } from './prompt-run.js';
import type { Service } from './service.js';
import { SocketLink } from './socket-link.js';
import { PieceStream } from './stream-pieces.js';
import { ClientFrame, type ServerFrame } from './stream-protocol.js';
import { inSession, newSession, type Session } from './stream-session.js';
import type { AnswerEvent } from './tools/tool-call-events.js';

const streamsPerSocket = 256;

type DeltaFrame = Extract<ServerFrame, { type: 'delta' }>;
type DoneFrame = Extract<ServerFrame, { type: 'done' }>;

interface Stream {
  /** Absent while the body is prepared. */
  run?: PromptRun;
  /** Aborted when it is cancelled, or its socket closes. */
  readonly left: AbortController;
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
  readonly #sessions = new Map<string, Session>();
  readonly #link: SocketLink;

  constructor(
    socket: WebSocket,
    private readonly service: Service,
    private readonly key: ApiKey,
  ) {
    this.#link = new SocketLink(socket, service, {
      onFrame: (data) => void this.#onFrame(data),
      onBinary: (error) => this.#sendError(null, error),
      onBlocked: () => {
        for (const { run } of this.#streams.values()) run?.pause();
      },
      onDrained: () => {
        for (const stream of this.#streams.values()) {
          if (stream.unacknowledged < stream.window) stream.run?.resume();
        }
      },
      onClose: () => {
        for (const id of [...this.#streams.keys()]) this.#end(id);
        for (const { name } of this.#sessions.values()) service.loaded?.engine.endSession(name);
        this.#sessions.clear();
      },
    });
  }

  async #onFrame(data: Buffer): Promise<void> {
    let id: string | null = null;
    try {
      const json = parseJson(data);
      id = idOf(json);
      const frame = checked(ClientFrame, json);
      switch (frame.type) {
        case 'generate':
          await this.#begin(frame);
          break;
        case 'update':
          await this.#update(frame);
          break;
        case 'end':
          this.#endSession(frame.id);
          break;
        case 'cancel':
          this.#cancel(frame.id);
          break;
        case 'ack':
          this.#acknowledge(frame.id, frame.count);
          break;
      }
    } catch (error) {
      // A request that runs under this id is not the one that failed: it goes on, and its reader must not be misled.
      this.#sendError(id !== null && this.#streams.has(id) ? null : id, error);
    }
  }

  async #begin({ id, request, window, session }: Extract<ClientFrame, { type: 'generate' }>): Promise<void> {
    if (this.#sessions.has(id))
      throw invalidRequest(`There is a session '${id}' on this socket: update it, or end it first.`, 'id');
    if (!session) {
      await this.#generate(id, request, window);
      return;
    }
    if (this.#sessions.size >= streamsPerSocket) {
      throw new ApiError(429, 'rate_limit_error', `A socket takes ${streamsPerSocket} sessions at once.`);
    }
    const own = newSession();
    this.#sessions.set(id, own);
    try {
      await this.#generate(id, request, window, own);
    } catch (error) {
      this.#forget(id, own);
      throw error;
    }
  }

  /** Goes on with a session. */
  async #update({ id, request, window }: Extract<ClientFrame, { type: 'update' }>): Promise<void> {
    const session = this.#sessions.get(id);
    if (!session) throw invalidRequest(`There is no session '${id}' on this socket to update.`, 'id');
    await this.#generate(id, request, window, session);
  }

  #endSession(id: string): void {
    const session = this.#sessions.get(id);
    if (!session) throw invalidRequest(`There is no session '${id}' on this socket.`, 'id');
    this.#end(id);
    this.#forget(id, session);
  }

  #forget(id: string, session: Session): void {
    if (this.#sessions.get(id) === session) this.#sessions.delete(id);
    this.service.loaded?.engine.endSession(session.name);
  }

  #cancel(id: string): void {
    this.#end(id);
    const session = this.#sessions.get(id);
    if (!session || session.isAnswered) return;
    // Whether the engine has read it, refuses it or has yet to hear of it is not known here: what comes next is the first.
    this.#forget(id, session);
    this.#sessions.set(id, newSession());
  }

  async #generate(id: string, request: object, window: number | undefined, session?: Session): Promise<void> {
    if (this.#streams.has(id)) {
      const message = `A request with the id '${id}' is running on this socket: choose another id, or cancel it first.`;
      throw invalidRequest(message, 'id', 'id_in_use');
    }
    if (this.#streams.size >= streamsPerSocket) {
      throw new ApiError(429, 'rate_limit_error', `A socket takes ${streamsPerSocket} requests at once.`);
    }
    this.service.admit(this.key);
    const stream: Stream = {
      left: new AbortController(),
      window: window ?? Number.POSITIVE_INFINITY,
      unacknowledged: 0,
      held: [],
    };
    this.#streams.set(id, stream);
    const goesOn = session?.isAnswered === true;
    try {
      const prepared = await this.#prepare(request, goesOn, stream.left.signal);
      if (prepared.prompts.length > 1) throw invalidRequest('Send one prompt a request.', 'request.prompt');
      // Cancelled, or the socket closed, while it was prepared.
      if (this.#streams.get(id) !== stream) return;
      const [own] = prepared.prompts;
      const prompt = session ? inSession(own!, prepared.kind, session, goesOn) : own!;
      const pieces = new PieceStream(prepared, prompt, 0);
      const reasons: string[] = [];
      stream.run = new PromptRun(this.service, this.key, `stream-${randomUUID()}`, [prompt]);
      stream.run
        .run((_, events) => {
          if (session) session.isAnswered ||= events.some(({ type }) => type !== 'error');
          this.#onEvents(id, stream, pieces, reasons, events);
        })
        .catch((error: unknown) => {
          this.#end(id);
          if (session && !session.isAnswered) this.#forget(id, session);
          this.#sendError(id, error);
        });
    } catch (error) {
      // Nobody waits for what was cancelled, and another may have its id since.
      if (this.#streams.get(id) !== stream) return;
      this.#streams.delete(id);
      throw error;
    }
  }

  /** `goesOn`: in a session, behind what it has. */
  async #prepare(request: object, goesOn: boolean, left: AbortSignal): Promise<Prepared> {
    const { preparer } = this.service.model;
    const isChat = 'messages' in request;
    if (!isChat && !('prompt' in request)) {
      throw invalidRequest("'request' needs 'messages' or a 'prompt'.", 'request');
    }
    const body = {
      ...request,
      stream: true,
      // What begins a text belongs before the first prompt only.
      ...(goesOn && !isChat && { add_special_tokens: false }),
    };
    const chat = goesOn ? 'chatUpdate' : 'chat';
    return preparer.prepare(isChat ? chat : 'completion', Buffer.from(JSON.stringify(body)), { left });
  }

  #onEvents(
    id: string,
    stream: Stream,
    pieces: PieceStream,
    reasons: string[],
    events: readonly AnswerEvent[],
  ): void {
    for (const { index, text, toolCall, finishReason, logprobs } of pieces.next(events)) {
      if (finishReason !== null) reasons[index] = finishReason;
      // The last piece has no text; it may tell of tokens whose text is not shown.
      if (finishReason !== null && !logprobs) continue;
      const call = toolCall && chatToolCallDelta(toolCall);
      if (toolCall && !call) continue;
      stream.held.push({
        type: 'delta',
        id,
        choice: index,
        text,
        ...(call && { tool_calls: [call] }),
        ...(logprobs && { logprobs: chatLogprobs(logprobs) }),
      });
    }
    const last = events.at(-1);
    if (last?.type === 'done') {
      stream.held.push({ type: 'done', id, finish_reasons: reasons, usage: usageBody([last.usage]) });
    }
    this.#sendHeld(stream);
    // One that began while the socket is not read has not been told.
    if (stream.unacknowledged >= stream.window || this.#link.isBlocked) stream.run?.pause();
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
      stream.run?.resume();
    }
  }

  #end(id: string): void {
    const stream = this.#streams.get(id);
    this.#streams.delete(id);
    stream?.left.abort();
    stream?.run?.cancel();
  }

  #sendError(id: string | null, error: unknown): void {
    this.#send({ type: 'error', id, ...(errorBody(toApiError(error)) as { error: object }) });
  }

  #send(frame: ServerFrame): void {
    this.#link.send(frame);
  }
}

/** Of a frame that may be wrong otherwise, so that whoever waits for an answer under it learns of that. */
function idOf(frame: unknown): string | null {
  const id = typeof frame === 'object' && frame !== null && 'id' in frame ? frame.id : null;
  return typeof id === 'string' ? id : null;
}
