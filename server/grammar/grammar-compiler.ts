import { readFileSync } from 'node:fs';
import {
  type CompiledGrammar,
  type CompileReply,
  compileThread,
  type GrammarSource,
  grammarKey,
} from '../../engine/index.js';
import { type ApiError, invalidRequest } from '../openai/errors.js';
import { WorkerCalls } from '../worker-calls.js';

export interface CompilerLimits {
  /** Of computing: its thread goes behind others, so it may take some times as long. */
  readonly timeMs: number;
  /** Of the thread that compiles. */
  readonly memoryMb: number;
  /** Bytes of compiled grammars that are kept for whoever sends them again. */
  readonly cacheBytes: number;
}

const defaults: CompilerLimits = {
  timeMs: 10_000,
  memoryMb: 512,
  cacheBytes: 64 * 1024 * 1024,
};

/** However little of it the thread has had. */
const mostTimes = 6;

/**
 * Compiles grammars in a thread of their own, one after another, and keeps the last ones. What takes too long or too much
 * memory ends with the thread, and is refused; what waits behind it begins again in the next thread.
 */
export class GrammarCompiler {
  readonly #limits: CompilerLimits;
  readonly #worker: WorkerCalls<{ source: GrammarSource }>;
  /** The system's number of the thread, which the thread writes there. */
  readonly #thread = new Int32Array(new SharedArrayBuffer(4));
  /** The one used last comes last. */
  readonly #cache = new Map<string, CompiledGrammar>();
  #cachedBytes = 0;
  readonly #pending = new Map<string, Promise<CompiledGrammar>>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(limits: Partial<CompilerLimits> = {}) {
    this.#limits = { ...defaults, ...limits };
    this.#worker = new WorkerCalls(compileThread, this.#thread, {
      maxOldGenerationSizeMb: this.#limits.memoryMb,
    });
  }

  /** Starts the thread before anybody waits for it. */
  warm(): void {
    this.#worker.warm();
  }

  /** Grammars that are kept. */
  get size(): number {
    return this.#cache.size;
  }

  /** Rejects with `ApiError` 400 if the source cannot be followed, or takes too much. */
  async compile(source: GrammarSource): Promise<CompiledGrammar> {
    const key = grammarKey(source);
    const kept = this.#cache.get(key);
    if (kept) {
      this.#cache.delete(key);
      this.#cache.set(key, kept);
      return kept;
    }
    let compiled = this.#pending.get(key);
    if (!compiled) {
      compiled = this.#compile(source, this.#last).finally(() => this.#pending.delete(key));
      this.#pending.set(key, compiled);
      this.#last = compiled.catch(() => undefined);
    }
    return compiled;
  }

  close(): Promise<void> {
    return this.#worker.close();
  }

  /** The thread is told at once, and does not wait for this one between two grammars. The time counts from `turn` on. */
  async #compile(source: GrammarSource, turn: Promise<unknown>): Promise<CompiledGrammar> {
    const early = this.#ask(source);
    let isLost = false;
    early.catch(() => {
      isLost = true;
    });
    await turn;
    try {
      const reply = await this.#inTime(source, isLost ? this.#ask(source) : early);
      if ('invalid' in reply) throw invalid(reply.invalid);
      this.#keep(reply.compiled);
      return reply.compiled;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY') {
        throw tooLarge(source, `compiling it took more than ${this.#limits.memoryMb} MB`);
      }
      throw error;
    }
  }

  #ask(source: GrammarSource): Promise<CompileReply> {
    if (!this.#worker.isRunning) this.#thread[0] = 0;
    return this.#worker.call<CompileReply>({ source });
  }

  async #inTime(source: GrammarSource, reply: Promise<CompileReply>): Promise<CompileReply> {
    const { timeMs } = this.#limits;
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
        reject(tooLarge(source, `compiling it took more than ${timeMs} ms`));
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

  #keep(compiled: CompiledGrammar): void {
    this.#cache.set(compiled.key, compiled);
    this.#cachedBytes += bytesOf(compiled);
    for (const [key, oldest] of this.#cache) {
      if (this.#cachedBytes <= this.#limits.cacheBytes || key === compiled.key) break;
      this.#cache.delete(key);
      this.#cachedBytes -= bytesOf(oldest);
    }
  }
}

function invalid({ message, param }: { message: string; param: string | undefined }): ApiError {
  const where = param === undefined ? 'the grammar' : `'${param}'`;
  return invalidRequest(`Invalid ${where}: ${message}.`, param, 'invalid_grammar');
}

function tooLarge(source: GrammarSource, why: string): ApiError {
  const param = 'param' in source ? source.param : undefined;
  return invalidRequest(
    `The ${param ? `'${param}'` : 'grammar'} is too large: ${why}.`,
    param,
    'grammar_too_large',
  );
}

function bytesOf({ tables }: CompiledGrammar): number {
  return Object.values(tables).reduce((sum: number, column) => sum + column.byteLength, 0);
}
