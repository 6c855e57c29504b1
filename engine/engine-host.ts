import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { EngineSettings } from '../config/schema.js';
import type { Command, Report, WorkerData } from './messages.js';

/** Where an engine runs, beside the thread that asks it (`worker.ts` is the program there). */
export interface EngineHost {
  post(command: Command): void;
  onReport(listener: (report: Report) => void): void;
  /** Called once, when it has ended, with why. */
  onEnd(listener: (reason: string) => void): void;
  /** Ends it at once. */
  end(): Promise<void>;
}

const program = new URL('./worker.js', import.meta.url);

/**
 * A thread, or a process where a GPU may be computed on: once a kernel has failed CUDA does nothing more for a process, so
 * only a new one gets the device back.
 */
export function startHost(data: WorkerData): EngineHost {
  return mayUseGpu(data.engine) ? startProcess(data) : startThread(data);
}

function mayUseGpu({ device, cores, isa }: EngineSettings): boolean {
  if (device !== 'auto') return device === 'cuda';
  const driver = ['/dev/nvidiactl', '/dev/dxg'].some((file) => existsSync(file));
  return driver && cores === undefined && isa === undefined;
}

export function startThread(workerData: WorkerData): EngineHost {
  const worker = new Worker(program, { workerData });
  return {
    post: (command) => worker.postMessage(command, pixelsOf(command)),
    onReport: (listener) => {
      worker.on('message', listener);
    },
    onEnd: (listener) => {
      const end = onceOnly(listener);
      worker.on('error', (error) => end(`The engine's thread failed: ${error.message}`));
      worker.on('exit', () => end("The engine's thread has ended."));
    },
    end: async () => {
      await worker.terminate();
    },
  };
}

export function startProcess(data: WorkerData): EngineHost & { readonly pid: number | undefined } {
  // Its messages hold typed arrays and maps; its standard output would mix with what a command prints.
  const child: ChildProcess = fork(fileURLToPath(program), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  child.send(data);
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  return {
    pid: child.pid,
    post: (command) => {
      if (child.connected) child.send(command);
      // They are written into the message, and are not needed here: as where they are handed to a thread.
      for (const pixels of pixelsOf(command)) structuredClone(pixels, { transfer: [pixels] });
    },
    onReport: (listener) => {
      child.on('message', (report) => listener(report as Report));
    },
    onEnd: (listener) => {
      const end = onceOnly(listener);
      child.on('error', (error) => end(`The engine's process failed: ${error.message}`));
      child.on('exit', (code, signal) =>
        end(`The engine's process has ended (${signal ?? `exit code ${code}`}).`),
      );
    },
    end: async () => {
      if (hasEnded()) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** What is moved to the host, since it is large. */
function pixelsOf(command: Command): ArrayBuffer[] {
  const images = command.type === 'submit' ? command.request.images : undefined;
  // One that is shown twice is one buffer.
  return [...new Set(images?.map(({ pixels }) => pixels.buffer as ArrayBuffer))];
}

function onceOnly(listener: (reason: string) => void): (reason: string) => void {
  let called = false;
  return (reason) => {
    if (called) return;
    called = true;
    listener(reason);
  };
}
