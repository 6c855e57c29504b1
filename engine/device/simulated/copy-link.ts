/** A connection that carries one copy at a time: to the host, or to another device. Times in seconds. */
export class CopyLink {
  #freeAt = 0;
  #bytes = 0;

  constructor(
    readonly bytesPerSecond: number,
    readonly latencySeconds: number,
  ) {}

  get bytes(): number {
    return this.#bytes;
  }

  /** When a copy that is asked for now will have arrived. */
  send(bytes: number, now: number): number {
    this.#freeAt = Math.max(this.#freeAt, now) + bytes / this.bytesPerSecond;
    this.#bytes += bytes;
    return this.#freeAt + this.latencySeconds;
  }
}
