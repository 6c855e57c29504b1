import type { WebSocket } from 'ws';
import { RateLimit } from './keys/rate-limit.js';
import { type ApiError, invalidRequest } from './openai/errors.js';
import type { Service } from './service.js';

/** Bytes that may wait in a socket before what it streams pauses. */
const highWaterBytes = 1024 * 1024;
/** How often a socket that is over it is looked at again; ws has no event for it. */
const drainCheckMs = 20;
/** A socket that answers no ping for this long is gone. */
const pingMs = 30_000;

export interface SocketListener {
  /** A text frame. */
  onFrame(data: Buffer): void;
  /** A binary frame, which no protocol here has. */
  onBinary(error: ApiError): void;
  /** The reader does not keep up. */
  onBlocked(): void;
  onDrained(): void;
  onClose(): void;
}

/** What all sockets have in common: pings, the count of them, and what to do when the reader is slow. */
export class SocketLink {
  #alive = true;
  #drainTimer: NodeJS.Timeout | undefined;

  constructor(
    private readonly socket: WebSocket,
    service: Service,
    private readonly listener: SocketListener,
  ) {
    service.metrics.webSockets.inc();
    const ping = setInterval(() => {
      if (!this.#alive) socket.terminate();
      this.#alive = false;
      socket.ping();
    }, pingMs);
    socket.on('pong', () => {
      this.#alive = true;
    });
    const frames = new RateLimit(service.settings.server.framesPerSecond, 1, () => performance.now());
    socket.on('message', (data, isBinary) => {
      if (isBinary) listener.onBinary(invalidRequest('A binary frame came: send frames as text, of JSON.'));
      else listener.onFrame(data as Buffer);
      frames.take(1);
      if (frames.remaining === 0 && !socket.isPaused) {
        // What is not read is not acknowledged by TCP, so the client is slowed and nothing is lost.
        socket.pause();
        setTimeout(() => socket.resume(), frames.secondsUntilNext() * 1000);
      }
    });
    // Protocol errors close the socket; `close` follows.
    socket.on('error', (error) => service.logger.debug({ err: error.message }, 'websocket'));
    socket.on('close', () => {
      clearInterval(ping);
      clearInterval(this.#drainTimer);
      listener.onClose();
      service.metrics.webSockets.dec();
    });
  }

  get isBlocked(): boolean {
    return this.#drainTimer !== undefined;
  }

  send(frame: object): void {
    if (this.socket.readyState !== this.socket.OPEN) return;
    this.socket.send(JSON.stringify(frame));
    if (this.socket.bufferedAmount > highWaterBytes && !this.isBlocked) this.#block();
  }

  #block(): void {
    this.listener.onBlocked();
    this.#drainTimer = setInterval(() => {
      if (this.socket.bufferedAmount > highWaterBytes / 2) return;
      clearInterval(this.#drainTimer);
      this.#drainTimer = undefined;
      this.listener.onDrained();
    }, drainCheckMs);
  }
}
