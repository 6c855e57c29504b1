import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Of a connection: the first is being sent, the others wait behind it. */
type Answers = Map<ServerResponse, IncomingMessage>;

/** The answers that are not wholly sent. */
export class OpenAnswers {
  readonly #open = new Map<Socket, Answers>();
  #onClose: () => void = () => undefined;
  /** What is done when nothing more is to be sent on a connection. */
  readonly #afterLast = new Map<Socket, () => void>();

  constructor(http: Server) {
    http.on('connection', (socket) => {
      const answers: Answers = new Map();
      this.#open.set(socket, answers);
      socket.on('close', () => {
        this.#open.delete(socket);
        this.#afterLast.delete(socket);
        closeWaiting(answers);
      });
    });
    http.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      this.#open.get(socket)?.set(response, request);
      response.on('close', () => {
        this.#open.get(socket)?.delete(response);
        this.#onClose();
        this.#callAfterLast(socket);
      });
    });
  }

  /** Resolves when all whose requests have wholly come are sent or their readers have left, or after so many milliseconds. */
  async sent(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
      this.#onClose = () => {
        const requests = [...this.#open.values()].flatMap((answers) => [...answers.values()]);
        // Who has not said all that is asked for has no answer to wait for.
        if (!requests.some(({ complete }) => complete)) resolve();
      };
      this.#onClose();
    });
    clearTimeout(timer);
  }

  /** Calls back when all that is under way on a connection is sent, which may be now, unless its reader leaves before. */
  afterLast(socket: Socket, callBack: () => void): void {
    this.#afterLast.set(socket, callBack);
    this.#callAfterLast(socket);
  }

  #callAfterLast(socket: Socket): void {
    const callBack = this.#afterLast.get(socket);
    if (!callBack || [...(this.#open.get(socket) ?? [])].some(isUnderWay)) return;
    this.#afterLast.delete(socket);
    callBack();
  }
}

/** Node closes the answer that it was sending when its connection closed, and forgets those behind it. */
function closeWaiting(answers: Answers): void {
  for (const response of answers.keys()) {
    if (response.socket) continue;
    response.destroy();
    response.emit('close');
  }
}

/** A request that has not wholly come, and is not answered in spite of that, never will be. */
function isUnderWay([response, request]: [ServerResponse, IncomingMessage]): boolean {
  return request.complete || response.headersSent;
}
