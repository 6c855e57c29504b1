import { setMaxListeners } from 'node:events';
import { type CompletionRequest, type Streaming, streamCompletion } from './completion-stream.js';
import type { Target } from './target.js';

/** A time between two pieces of one stream, in milliseconds of `performance.now()`. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** Streams that run until they are stopped: one that reaches its end is followed by another. */
export class BackgroundStreams {
  readonly #gaps: Gap[] = [];
  /** When each running stream's last piece came. */
  readonly #lastPieces = new Map<number, number>();
  readonly #abort = new AbortController();
  readonly #clients: Promise<void>[];
  #failure: string | undefined;
  #isStopped = false;

  private constructor(
    private readonly target: Target,
    count: number,
    private readonly next: () => CompletionRequest,
    private readonly stream: Streaming,
    onFirstPiece: (client: number) => void,
  ) {
    // One of each stream, and Node warns of more than ten.
    setMaxListeners(0, this.#abort.signal);
    this.#clients = Array.from({ length: count }, (_, client) => this.#run(client, onFirstPiece));
  }

  /** `next` makes each request. Resolves when all streams run. */
  static async start(
    target: Target,
    count: number,
    next: () => CompletionRequest,
    stream: Streaming = streamCompletion,
  ): Promise<BackgroundStreams> {
    const running = new Set<number>();
    let streams: BackgroundStreams | undefined;
    await new Promise<void>((resolve, reject) => {
      streams = new BackgroundStreams(target, count, next, stream, (client) => {
        running.add(client);
        if (running.size === count) resolve();
      });
      // They end before they are stopped only if one failed.
      Promise.all(streams.#clients).then(() => reject(streams!.#error()), reject);
    });
    return streams!;
  }

  /** Measures something beside the streams, and stops them, however that ends. Throws if a stream has failed. */
  async during<T>(measure: () => Promise<T>): Promise<T> {
    try {
      const measured = await measure();
      this.check();
      return measured;
    } finally {
      await this.#stop();
    }
  }

  /** Throws if a stream has failed: then figures say nothing. */
  check(): void {
    if (this.#failure !== undefined) throw this.#error();
  }

  /**
   * Gaps that touch the time given. Throws while the streams run: millions of gaps take seconds to look at, and what comes
   * meanwhile would be read late and count as the server's doing.
   */
  gapsTouching(from: number, to: number): number[] {
    if (!this.#isStopped) throw new Error('gaps of streams are looked at when they have been stopped');
    return this.#gaps.filter((gap) => gap.to > from && gap.from < to).map((gap) => gap.to - gap.from);
  }

  async #stop(): Promise<void> {
    // A gap that is open counts as long as it is by now: a stream that stalls must not drop out of the figures because it stalls.
    const now = performance.now();
    for (const last of this.#lastPieces.values()) this.#gaps.push({ from: last, to: now });
    this.#isStopped = true;
    this.#abort.abort();
    await Promise.all(this.#clients);
  }

  #error(): Error {
    return new Error(`a running stream failed: ${this.#failure}`);
  }

  async #run(client: number, onFirstPiece: (client: number) => void): Promise<void> {
    const { signal } = this.#abort;
    const onPiece = (at: number) => {
      const last = this.#lastPieces.get(client);
      if (this.#isStopped) return;
      if (last === undefined) onFirstPiece(client);
      else this.#gaps.push({ from: last, to: at });
      this.#lastPieces.set(client, at);
    };
    while (!signal.aborted && this.#failure === undefined) {
      const { error } = await this.stream(this.target, this.next(), { signal, onPiece });
      this.#lastPieces.delete(client);
      if (error !== undefined) {
        this.#failure ??= error;
        this.#abort.abort();
      }
    }
  }
}
