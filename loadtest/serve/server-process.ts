import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import process from 'node:process';
import { packageRoot } from '../../config/package-root.js';

/** A server of our own on a free port of the loopback. */
export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
  ) {}

  /** `args`: flags of `tandem serve`. Resolves when the model is loaded; rejects if the process ends before. */
  static async start(model: string | undefined, args: readonly string[]): Promise<ServerProcess> {
    const script = path.join(packageRoot, 'scripts', 'tandem.mjs');
    const serve = [script, 'serve', ...(model === undefined ? [] : [model])];
    const child = spawn(process.execPath, [...serve, '--port', '0', '--log-level', 'warn', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    // A server must not outlive the measurement that asked for it, however that ends.
    const onExit = (): void => {
      child.kill();
    };
    process.once('exit', onExit);
    child.on('exit', () => process.off('exit', onExit));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const onSignal = (): void => {
        child.kill(signal);
        process.kill(process.pid, signal);
      };
      process.once(signal, onSignal);
      child.on('exit', () => process.off(signal, onSignal));
    }
    let output = '';
    const url = await new Promise<string>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => {
        reject(new Error(`the server ended before it was ready (${signal ?? `exit code ${code}`})`));
      });
      child.stdout.on('data', (text: Buffer) => {
        output += text.toString();
        // The one line of `tandem serve` on standard output comes when it is ready.
        const found = /https?:\/\/[\w.:[\]-]+/.exec(output);
        if (found && output.includes('\n')) resolve(found[0]);
      });
    });
    return new ServerProcess(child, url);
  }

  /** Lets it drain, and waits for its end. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await exited;
  }
}
