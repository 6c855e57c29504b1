import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Probe, Runner, RunnerAnswer, RunnerCall, RunnerInfo, RunnerOptions } from './runner.js';

/** A runner in a process of its own, so that two libraries and their threads never share one. */
export class RunnerProcess implements Runner {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: RunnerAnswer) => void>();
  #nextId = 1;

  /** `module` is a script that ends in `serveRunner`. */
  constructor(
    private readonly name: string,
    module: URL,
    args: readonly string[] = [],
  ) {
    this.#child = fork(module, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#child.on('message', (answer: RunnerAnswer) => {
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#child.on('exit', (code, signal) => {
      for (const [id, settle] of this.#waiting) {
        settle({ id, error: `its process ended (${signal ?? `exit code ${code}`})` });
      }
      this.#waiting.clear();
    });
  }

  open(options: RunnerOptions): Promise<RunnerInfo> {
    return this.#call('open', options);
  }

  prefill(prompt: readonly number[]): Promise<number> {
    return this.#call('prefill', prompt);
  }

  decode(prompts: readonly (readonly number[])[], steps: number): Promise<number> {
    return this.#call('decode', prompts, steps);
  }

  probe(prompt: readonly number[], candidates: readonly number[]): Promise<Probe> {
    return this.#call('probe', prompt, candidates);
  }

  /** Frees the model and waits for the process to end. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    await this.#call<void>('close').catch(() => this.#child.kill());
    await exited;
  }

  #call<T>(method: RunnerCall['method'], ...args: unknown[]): Promise<T> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (answer) => {
        if ('error' in answer) reject(new Error(`${this.name}: ${answer.error}`));
        else resolve(answer.value as T);
      });
      this.#child.send({ id, method, args } satisfies RunnerCall, (error) => {
        if (!error || !this.#waiting.delete(id)) return;
        reject(new Error(`${this.name}: ${error.message}`));
      });
    });
  }
}
