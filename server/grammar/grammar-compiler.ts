import {
  type CompiledGrammar,
  type CompileReply,
  type GrammarSource,
  grammarKey,
} from '../../engine/index.js';
import { BoundedQueue } from '../bounded-queue.js';
import { type ApiError, clientLeft, invalidRequest } from '../openai/errors.js';
import { GrammarThread, TooLarge } from './grammar-thread.js';

export interface CompilerLimits {
  /** Of computing a grammar. */
  readonly timeMs: number;
  /** Of a thread that compiles. */
  readonly memoryMb: number;
  /** Bytes of compiled grammars that are kept for whoever sends them again. */
  readonly cacheBytes: number;
  /** Large grammars that may wait for their thread. */
  readonly maxQueue: number;
  /** What their sources may hold together. */
  readonly queueBytes: number;
}

/** Of a grammar that is being compiled. */
interface Compilation {
  readonly compiled: Promise<CompiledGrammar>;
  /** So many that asked for it have not left. */
  waiting: number;
  /** Aborted when all have. */
  readonly left: AbortController;
}

const defaults: CompilerLimits = {
  timeMs: 10_000,
  memoryMb: 512,
  cacheBytes: 64 * 1024 * 1024,
  maxQueue: Number.POSITIVE_INFINITY,
  queueBytes: Number.POSITIVE_INFINITY,
};

/**
 * What the first thread may take for a grammar, in steps of a fifth of a microsecond. The schemas of the JSON Schema Test
 * Suite take 120 at the median and 5000 at most, and texts of up to 300 characters 30,000.
 */
const smallEffort = 50_000;
/** Of what those steps do not count. */
const smallTimeMs = 1000;

/**
 * Compiles grammars in threads of their own, and keeps the last ones. The first thread has soon done with what is small,
 * which most are, and has the same right to the processor as those that answer; what is not goes to a second one, with less
 * right to it, so that nobody else waits for that. What takes too long or too much memory ends with its thread, and is refused.
 */
export class GrammarCompiler {
  readonly #limits: CompilerLimits;
  readonly #small: GrammarThread;
  readonly #large: GrammarThread;
  readonly #largeQueue: BoundedQueue;
  /** The one used last comes last. */
  readonly #cache = new Map<string, CompiledGrammar>();
  #cachedBytes = 0;
  readonly #pending = new Map<string, Compilation>();

  constructor(limits: Partial<CompilerLimits> = {}) {
    this.#limits = { ...defaults, ...limits };
    const { timeMs, memoryMb, maxQueue, queueBytes } = this.#limits;
    this.#small = new GrammarThread({ timeMs: Math.min(timeMs, smallTimeMs), memoryMb, effort: smallEffort });
    this.#large = new GrammarThread({ timeMs, memoryMb });
    this.#largeQueue = new BoundedQueue('large grammars', { most: maxQueue, bytes: queueBytes });
  }

  /** Starts the first thread before anybody waits for it. */
  warm(): void {
    this.#small.warm();
  }

  /** Grammars that are kept. */
  get size(): number {
    return this.#cache.size;
  }

  /**
   * Rejects with `ApiError`: 400 if the source cannot be followed, or takes too much, 429 if it is large and too many wait. It
   * is not begun where all that asked for it have aborted their `waitedFor` before its turn comes.
   */
  async compile(source: GrammarSource, waitedFor?: AbortSignal): Promise<CompiledGrammar> {
    waitedFor?.throwIfAborted();
    const key = grammarKey(source);
    const kept = this.#cache.get(key);
    if (kept) {
      this.#cache.delete(key);
      this.#cache.set(key, kept);
      return kept;
    }
    const compilation = this.#pending.get(key) ?? this.#begin(key, source);
    compilation.waiting++;
    waitedFor?.addEventListener('abort', () => {
      if (--compilation.waiting > 0) return;
      // Whoever asks for it from now on needs another.
      this.#forget(key, compilation);
      compilation.left.abort();
    });
    return compilation.compiled;
  }

  async close(): Promise<void> {
    await Promise.all([this.#small.close(), this.#large.close()]);
  }

  #begin(key: string, source: GrammarSource): Compilation {
    const left = new AbortController();
    const compiled = this.#compile(source, left.signal).finally(() => this.#forget(key, compilation));
    const compilation = { compiled, waiting: 0, left };
    this.#pending.set(key, compilation);
    return compilation;
  }

  #forget(key: string, compilation: Compilation): void {
    if (this.#pending.get(key) === compilation) this.#pending.delete(key);
  }

  async #compile(source: GrammarSource, waitedFor: AbortSignal): Promise<CompiledGrammar> {
    try {
      const small = await this.#small.compile(source, waitedFor).catch(leftToLarge);
      const reply = 'tooMuch' in small ? await this.#compileLarge(source, waitedFor) : small;
      if ('givenUp' in reply) throw clientLeft();
      if ('invalid' in reply) throw invalid(reply.invalid);
      if ('tooMuch' in reply) throw new TooLarge('compiling it took too many steps');
      this.#keep(reply.compiled);
      return reply.compiled;
    } catch (error) {
      if (error instanceof TooLarge) throw tooLarge(source, error.message);
      throw error;
    }
  }

  #compileLarge(source: GrammarSource, waitedFor: AbortSignal): Promise<CompileReply> {
    const bytes = JSON.stringify(source).length;
    return this.#largeQueue.run(bytes, () => this.#large.compile(source, waitedFor));
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

/** What is too large for the thread of small ones may not be for the other one. */
function leftToLarge(error: unknown): { tooMuch: true } {
  if (error instanceof TooLarge) return { tooMuch: true };
  throw error;
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
