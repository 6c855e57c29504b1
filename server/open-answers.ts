import type { IncomingMessage, Server, ServerResponse } from 'node:http';

/** The answers that are not wholly sent, of requests that have wholly come. */
export class OpenAnswers {
  readonly #open = new Map<ServerResponse, IncomingMessage>();
  #onClose: () => void = () => undefined;

  constructor(http: Server) {
    http.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.#open.set(response, request);
      response.on('close', () => {
        this.#open.delete(response);
        this.#onClose();
      });
    });
  }

  /** Resolves when all are sent or their readers have left, or after so many milliseconds. */
  async sent(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
      this.#onClose = () => {
        // Who has not said all that is asked for has no answer to wait for.
        if (![...this.#open.values()].some(({ complete }) => complete)) resolve();
      };
      this.#onClose();
    });
    clearTimeout(timer);
  }
}
