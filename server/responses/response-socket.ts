import type { WebSocket } from 'ws';
import type { ApiKey } from '../keys/api-key.js';
import { ApiError, errorBody, toApiError } from '../openai/errors.js';
import type { Service } from '../service.js';
import { SocketLink } from '../socket-link.js';
import { findStored, prepareContinuing, ResponseAnswer } from './answer.js';
import { type FoundItems, joinItems, type ResponseNeeds } from './found-items.js';
import type { PreparedResponse } from './prepared.js';
import type { ResponseResource } from './response-events.js';

/** Frames that may wait for the response before them. Their bytes are bounded too, by the limit of one body. */
const maxWaiting = 256;

/** The last response of a socket that was not to be kept: the socket alone can continue it. */
interface Unkept {
  readonly id: string;
  /** All of its conversation, as JSON text of an array of items. */
  readonly conversation: string;
}

/** A socket of `WS /v1/responses`: one response after another, in the order of the frames. */
export class ResponseSocket {
  readonly #link: SocketLink;
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #busy = false;
  readonly #left = new AbortController();
  #answer: ResponseAnswer | undefined;
  #unkept: Unkept | undefined;

  constructor(
    socket: WebSocket,
    private readonly service: Service,
    private readonly key: ApiKey,
  ) {
    this.#link = new SocketLink(socket, service, {
      onFrame: (data) => this.#onFrame(data),
      onBinary: (error) => this.#refuse(error),
      onBlocked: () => this.#answer?.run.pause(),
      onDrained: () => this.#answer?.run.resume(),
      onClose: () => {
        this.#left.abort();
        this.#waiting.length = 0;
        this.#answer?.run.cancel();
      },
    });
  }

  #onFrame(data: Buffer): void {
    const limitBytes = this.service.settings.server.bodyLimit;
    if (this.#waiting.length >= maxWaiting || this.#waitingBytes + data.length > limitBytes) {
      const message = `Frames wait for a response to end: at most ${maxWaiting}, and ${limitBytes} bytes.`;
      this.#refuse(new ApiError(429, 'rate_limit_error', message, { code: 'too_many_frames' }));
      return;
    }
    this.#waiting.push(data);
    this.#waitingBytes += data.length;
    if (!this.#busy) void this.#answerWaiting();
  }

  async #answerWaiting(): Promise<void> {
    this.#busy = true;
    for (let data = this.#waiting.shift(); data; data = this.#waiting.shift()) {
      this.#waitingBytes -= data.length;
      await this.#respond(data).catch((error: unknown) => this.#refuse(toApiError(error)));
    }
    this.#busy = false;
  }

  async #respond(data: Buffer): Promise<void> {
    this.service.admit(this.key);
    const { signal: left } = this.#left;
    const prepared = await prepareContinuing(this.service, this.key, 'responseFrame', data, left, (needs) =>
      this.#find(needs),
    );
    // The socket may have closed while it was prepared.
    if (left.aborted) return;
    const answer = new ResponseAnswer(this.service, this.key, prepared, this.#continuesUnkept(prepared));
    this.#answer = answer;
    let begun = false;
    try {
      await answer.run.run((_, events) => {
        for (const event of answer.next(events)) {
          this.#link.send(event);
          begun = true;
        }
        // It may have begun while the socket is not read.
        if (this.#link.isBlocked) answer.run.pause();
      });
    } catch (error) {
      if (!begun) throw error;
      const apiError = toApiError(error);
      this.service.logger.warn({ id: answer.run.id, err: apiError.message }, 'a stream ended with an error');
      this.#link.send(answer.failure(apiError));
      return;
    } finally {
      this.#answer = undefined;
    }
    if (left.aborted) return;
    const { event, response } = answer.closing();
    if (!answer.isStored) this.#unkept = unkeptFrom(prepared, response);
    this.#link.send(event);
  }

  #continuesUnkept({ previousResponseId }: PreparedResponse): boolean {
    return previousResponseId !== null && previousResponseId === this.#unkept?.id;
  }

  async #find(needs: ResponseNeeds): Promise<FoundItems> {
    const { previousResponseId, itemIds } = needs;
    const unkept = this.#unkept;
    if (unkept === undefined || unkept.id !== previousResponseId)
      return findStored(this.service, this.key, needs);
    const others =
      itemIds.length === 0
        ? undefined
        : await findStored(this.service, this.key, { previousResponseId: null, itemIds });
    const bytes = unkept.conversation.length + (others?.bytes ?? 0);
    return { conversation: unkept.conversation, items: others?.items ?? {}, bytes };
  }

  #refuse(error: ApiError): void {
    const { error: body } = errorBody(error) as { error: { code: string | null } };
    const { status, type } = error;
    this.#link.send({ type: 'error', status, error: { ...body, code: body.code ?? type } });
  }
}

function unkeptFrom({ conversation, input }: PreparedResponse, response: ResponseResource): Unkept {
  return { id: response.id, conversation: joinItems([conversation, input, JSON.stringify(response.output)]) };
}
