import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { oneCore } from '../../support/one-core.js';

const runCommand = fileURLToPath(new URL('run-command.mjs', import.meta.url));

/** `tandem …` as a process of its own, without the set-up that goes before it, and with what it prints. */
export class TandemProcess {
  readonly child: ChildProcessWithoutNullStreams;
  stdout = '';
  stderr = '';
  readonly exit: Promise<number | string>;
  #onOutput: () => void = () => {};

  constructor(
    args: readonly string[],
    /** `shell`: what starts it, as `"$@"`. */
    options: { stdin?: string; env?: Record<string, string>; shell?: string } = {},
  ) {
    const command = [process.execPath, runCommand, ...args];
    const [program, ...rest] = options.shell ? ['sh', '-c', options.shell, 'sh', ...command] : command;
    this.child = spawn(program!, rest, {
      env: { TANDEM_CORES: String(oneCore.cores), ...process.env, ...options.env },
    });
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#onOutput();
    });
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#onOutput();
    });
    this.exit = once(this.child, 'close').then(([code, signal]) => code ?? signal);
    if (options.stdin !== undefined) this.child.stdin.end(options.stdin);
  }

  /** Resolves when the output matches; rejects when the process ends before. */
  async until(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray> {
    const matched = new Promise<RegExpExecArray>((resolve) => {
      this.#onOutput = () => {
        const match = pattern.exec(this[stream]);
        if (match) resolve(match);
      };
      this.#onOutput();
    });
    const ended = this.exit.then((code) => {
      throw new Error(`ended with ${code} before ${pattern}:\n${this.stdout}\n${this.stderr}`);
    });
    return Promise.race([matched, ended]);
  }
}
