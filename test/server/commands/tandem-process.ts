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
  readonly #isGroup: boolean;
  /** It has ended, and nothing that it started holds its output open. */
  #isOver = false;
  #onOutput: () => void = () => {};

  constructor(
    args: readonly string[],
    /** `shell`: what starts it, as `"$@"`. */
    options: { stdin?: string; env?: Record<string, string>; shell?: string } = {},
  ) {
    const command = [process.execPath, runCommand, ...args];
    const [program, ...rest] = options.shell ? ['sh', '-c', options.shell, 'sh', ...command] : command;
    this.#isGroup = options.shell !== undefined;
    this.child = spawn(program!, rest, {
      env: { TANDEM_CORES: String(oneCore.cores), ...process.env, ...options.env },
      // A group of its own, so that what the shell has started can be ended with it.
      detached: this.#isGroup,
    });
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#onOutput();
    });
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#onOutput();
    });
    this.exit = once(this.child, 'close').then(([code, signal]) => {
      this.#isOver = true;
      return code ?? signal;
    });
    if (options.stdin !== undefined) this.child.stdin.end(options.stdin);
  }

  /** Ends it at once, with what a shell has started, which may have outlived that. */
  async kill(): Promise<void> {
    if (this.#isGroup && !this.#isOver) endGroup(this.child.pid!);
    else this.child.kill('SIGKILL');
    await this.exit;
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

function endGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch (error) {
    // All of it has ended, though what it wrote may not have been read yet.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
