import type { LiveFrame } from '../../live/live-protocol.js';
import { socketProtocols } from '../shared/api-key.js';
import { servedModels } from '../shared/models.js';
import type { ServerError } from '../shared/server-error.js';

export type ConnectionState =
  | { readonly kind: 'connecting' | 'live' | 'paused' }
  /** Tried again in so many ms. */
  | { readonly kind: 'lost'; readonly retryMs: number }
  | { readonly kind: 'locked'; readonly reason: string };

const firstRetryMs = 500;
const longestRetryMs = 5000;

interface Listener {
  onFrame(frame: LiveFrame): void;
  onState(state: ConnectionState): void;
}

/** The socket to the server: opened again when it is lost, closed while nobody looks at the page. */
export class LiveConnection {
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #retryMs = firstRetryMs;
  /** Counts attempts, so that what an older one brings is known to be late. */
  #attempt = 0;

  constructor(private readonly listener: Listener) {
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.#pause();
      else this.open();
    });
  }

  /** Opens it, or opens it anew. */
  open(): void {
    this.#drop();
    if (document.hidden) {
      this.listener.onState({ kind: 'paused' });
      return;
    }
    void this.#connect(this.#attempt);
  }

  async #connect(attempt: number): Promise<void> {
    this.listener.onState({ kind: 'connecting' });
    // A socket that is refused does not say why; this does.
    const refusal = await servedModels().then(
      () => undefined,
      (error: ServerError) => error,
    );
    if (attempt !== this.#attempt) return;
    if (refusal?.status === 401) {
      this.listener.onState({ kind: 'locked', reason: refusal.message });
      return;
    }
    if (refusal) {
      this.#retryLater();
      return;
    }
    const url = new URL('/debug/live', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url, socketProtocols());
    this.#socket = socket;
    socket.addEventListener('open', () => {
      this.#retryMs = firstRetryMs;
      this.listener.onState({ kind: 'live' });
    });
    socket.addEventListener('message', ({ data }) => {
      if (socket === this.#socket) this.listener.onFrame(JSON.parse(data as string) as LiveFrame);
    });
    socket.addEventListener('close', () => {
      if (socket === this.#socket) this.#retryLater();
    });
  }

  #retryLater(): void {
    this.#drop();
    this.listener.onState({ kind: 'lost', retryMs: this.#retryMs });
    this.#timer = setTimeout(() => this.open(), this.#retryMs);
    this.#retryMs = Math.min(longestRetryMs, this.#retryMs * 2);
  }

  #pause(): void {
    this.#drop();
    this.listener.onState({ kind: 'paused' });
  }

  #drop(): void {
    this.#attempt++;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }
}
