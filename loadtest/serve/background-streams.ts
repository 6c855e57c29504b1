import { type CompletionRequest, streamCompletion } from './completion-stream.js';
import type { Target } from './target.js';

/** A time between two pieces of one stream, in milliseconds of `performance.now()`. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** Streams that run until they are stopped: one that reaches its end is followed by another. */
export class BackgroundStreams {
  readonly #gaps: Gap[] = [];
  readonly #abort = new AbortController();
  readonly #clients: Promise<void>[];
  #failure: string | undefined;

  private constructor(
    private readonly target: Target,
    requests: readonly (() => CompletionRequest)[],
    onFirstPiece: (client: number) => void,
  ) {
    this.#clients = requests.map((next, client) => this.#run(next, () => onFirstPiece(client)));
  }

  /** One stream per entry of `requests`. Resolves when all of them run. */
  static async start(
    target: Target,
    requests: readonly (() => CompletionRequest)[],
  ): Promise<BackgroundStreams> {
    const running = new Set<number>();
    let streams: BackgroundStreams | undefined;
    await new Promise<void>((resolve, reject) => {
      streams = new BackgroundStreams(target, requests, (client) => {
        running.add(client);
        if (running.size === requests.length) resolve();
      });
      // They end before they are stopped only if one failed.
      Promise.all(streams.#clients).then(() => reject(streams!.#error()), reject);
    });
    return streams!;
  }

  /** Gaps that lie in the time given, both ends included. Throws if a stream has failed: then they say nothing. */
  gapsWithin(from: number, to: number): number[] {
    this.#check();
    return this.#gaps.filter((gap) => gap.from >= from && gap.to <= to).map((gap) => gap.to - gap.from);
  }

  /** Gaps that touch the time given. */
  gapsTouching(from: number, to: number): number[] {
    this.#check();
    return this.#gaps.filter((gap) => gap.to > from && gap.from < to).map((gap) => gap.to - gap.from);
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

  async #run(next: () => CompletionRequest, onFirstPiece: () => void): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted && this.#failure === undefined) {
      let last: number | undefined;
      const onPiece = (at: number) => {
        if (last === undefined) onFirstPiece();
        else this.#gaps.push({ from: last, to: at });
        last = at;
      };
      const { error } = await streamCompletion(this.target, next(), { signal, onPiece });
      if (error !== undefined) {
        this.#failure ??= error;
        this.#abort.abort();
      }
    }
  }
}
