import { readFileSync } from 'node:fs';
import {
  type CompileReply,
  type CompileSettings,
  compileThread,
  type GrammarSource,
} from '../../engine/index.js';
import { WorkerCalls } from '../worker-calls.js';

export interface GrammarThreadLimits {
  /** Of computing a grammar: the thread may go behind others, so it may take some times as long. */
  readonly timeMs: number;
  readonly memoryMb: number;
  /** Steps of `Effort`; without them it compiles whatever time and memory allow, with less right to the processor. */
  readonly effort?: number;
}

/** However little of it the thread has had. */
const mostTimes = 6;

export class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** A thread that compiles grammars one after another. What waits behind one that ends the thread begins again in the next thread. */
export class GrammarThread {
  readonly #worker: WorkerCalls<{ source: GrammarSource }>;
  /** The system's number of the thread, which the thread writes there. */
  readonly #thread = new Int32Array(new SharedArrayBuffer(4));
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly limits: GrammarThreadLimits) {
    const settings: CompileSettings = { thread: this.#thread, effort: limits.effort };
    this.#worker = new WorkerCalls(compileThread, settings, { maxOldGenerationSizeMb: limits.memoryMb });
  }

  warm(): void {
    this.#worker.warm();
  }

  close(): Promise<void> {
    return this.#worker.close();
  }

  /**
   * Rejects with `TooLarge` where it took too much time or memory; then the thread has ended. It is not begun if `waitedFor` is
   * aborted when its turn comes.
   */
  compile(source: GrammarSource, waitedFor: AbortSignal): Promise<CompileReply> {
    const reply = this.#compile(source, waitedFor, this.#last);
    this.#last = reply.catch(() => undefined);
    return reply;
  }

  /** The thread is told at once, and does not wait for this one between two grammars. The time counts from `turn` on. */
  async #compile(
    source: GrammarSource,
    waitedFor: AbortSignal,
    turn: Promise<unknown>,
  ): Promise<CompileReply> {
    const early = this.#ask(source, waitedFor);
    let isLost = false;
    early.catch(() => {
      isLost = true;
    });
    await turn;
    try {
      return await this.#inTime(isLost ? this.#ask(source, waitedFor) : early);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY') {
        throw new TooLarge(`compiling it took more than ${this.limits.memoryMb} MB`);
      }
      throw error;
    }
  }

  #ask(source: GrammarSource, waitedFor: AbortSignal): Promise<CompileReply> {
    if (!this.#worker.isRunning) this.#thread[0] = 0;
    return this.#worker.call<CompileReply>({ source }, waitedFor);
  }

  async #inTime(reply: Promise<CompileReply>): Promise<CompileReply> {
    const { timeMs } = this.limits;
    let timer: NodeJS.Timeout | undefined;
    const [begin, computed] = [performance.now(), this.#computedMs() ?? 0];
    const late = new Promise<never>((_, reject) => {
      const check = (): void => {
        const passedMs = performance.now() - begin;
        const leftMs = timeMs - ((this.#computedMs() ?? passedMs) - computed);
        if (leftMs > 0 && passedMs < mostTimes * timeMs) {
          timer = setTimeout(check, leftMs);
          return;
        }
        reject(new TooLarge(`compiling it took more than ${timeMs} ms`));
        // What runs on after its time is of no use to anybody.
        void this.#worker.close();
      };
      timer = setTimeout(check, timeMs);
    });
    try {
      return await Promise.race([reply, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** What the thread has computed since its start; undefined where the system does not tell. */
  #computedMs(): number | undefined {
    if (process.platform !== 'linux') return undefined;
    const [thread] = this.#thread;
    if (!thread) return 0; // it has not begun
    try {
      return Number(readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
    } catch {
      return undefined;
    }
  }
}
