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

  /**
   * Gaps that touch the time given. One that is still open counts as long as it is by now: a stream that stalls must not
   * drop out of the figures because it stalls. Throws if a stream has failed: then they say nothing.
   */
  gapsTouching(from: number, to: number): number[] {
    this.#check();
    const now = performance.now();
    const open = Array.from(this.#lastPieces.values(), (last) => ({ from: last, to: now }));
    return [...this.#gaps, ...open]
      .filter((gap) => gap.to > from && gap.from < to)
      .map((gap) => gap.to - gap.from);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#clients);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#error();
  }

  #error(): Error {
    return new Error(`a running stream failed: ${this.#failure}`);
  }

  async #run(client: number, onFirstPiece: (client: number) => void): Promise<void> {
    const { signal } = this.#abort;
    const onPiece = (at: number) => {
      const last = this.#lastPieces.get(client);
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
