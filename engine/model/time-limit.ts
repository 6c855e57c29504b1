import { type Context, createContext, Script } from 'node:vm';

export class TimeLimitError extends Error {}

const script = new Script('work()');

/**
 * Runs synchronous work that may not come to an end, such as a template from a stranger: V8 stops it from a watching
 * thread, wherever it is. This bounds time only; memory taken meanwhile is not bounded.
 */
export class TimeLimit {
  readonly #context: Context = createContext({});

  constructor(readonly milliseconds: number) {}

  /** Throws `TimeLimitError` when the time is over, and whatever the work throws. */
  run<T>(work: () => T): T {
    this.#context.work = work;
    try {
      return script.runInContext(this.#context, { timeout: this.milliseconds }) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      throw new TimeLimitError(`took more than ${this.milliseconds} ms`);
    } finally {
      delete this.#context.work;
    }
  }
}
