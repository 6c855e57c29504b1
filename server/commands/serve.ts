import pino from 'pino';
import { printConfig } from '../../config/print.js';
import type { Settings } from '../../config/schema.js';
import { type Engine, openEngine } from '../../engine/index.js';
import { ApiError } from '../openai/errors.js';
import { type RunningServer, startServer } from '../server.js';
import { CommandError, configOf, modelCommand, runCommand } from './command.js';
import { LoadProgress } from './progress.js';

/** `tandem serve`: listens, loads, serves, and drains at SIGTERM or SIGINT. Resolves to the exit code. */
export function run(argv: readonly string[]): Promise<number> {
  const command = modelCommand('serve', 'Serve a model over HTTP.', ['model', 'engine', 'server', 'log']);
  command.option('--print-config', 'show every setting and where it comes from, and end');
  return runCommand(command, argv, async () => {
    const config = configOf(command);
    if (command.opts<{ printConfig?: boolean }>().printConfig) {
      process.stdout.write(`${printConfig(config)}\n`);
      return 0;
    }
    return serve(config.settings);
  });
}

async function serve(settings: Settings): Promise<number> {
  const logger = pino(
    { level: settings.log.logLevel, base: null },
    pino.destination({ dest: 2, sync: false }),
  );
  const server = await listen(settings, logger);
  try {
    const engine = await load(settings, logger);
    for (const note of engine.info.device.notes) logger.warn(note);
    // Until here a signal simply ends the process: nothing runs that could be drained.
    const stopped = firstSignal();
    await server.serve(engine, () => load(settings, logger));
    process.stdout.write(`${readyLine(server, engine)}\n`);
    await Promise.race([stopped, server.drainAsked]);
    logger.info('draining: no new requests, running ones may finish');
    await server.drain();
    return 0;
  } catch (error) {
    await server.close();
    throw error;
  }
}

async function listen(settings: Settings, logger: pino.Logger): Promise<RunningServer> {
  try {
    return await startServer(settings, logger);
  } catch (error) {
    const { host, port } = settings.server;
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') {
      throw new CommandError(`port ${port} on ${host} is in use; choose another with --port, or 0 for any`);
    }
    if (syscall === 'listen' || syscall === 'getaddrinfo') {
      throw new CommandError(`cannot listen on ${host}:${port} (${code}); choose another --host or --port`);
    }
    if (syscall === 'open' || syscall === 'read') {
      throw new CommandError(`--api-key-file ${settings.server.apiKeyFile} cannot be read (${code})`);
    }
    if (error instanceof ApiError) throw new CommandError(error.message);
    throw error;
  }
}

async function load(settings: Settings, logger: pino.Logger): Promise<Engine> {
  const progress = new LoadProgress('loading', process.stderr);
  const logsDecisions = settings.log.topics.includes('scheduler');
  try {
    return await openEngine(settings, {
      onProgress: (done, total) => progress.update(done, total),
      ...(logsDecisions && { onDecision: (decision) => logger.info({ decision }, 'scheduler') }),
    });
  } finally {
    progress.end();
  }
}

/** Resolves at the first signal, and leaves the second one to the system, which ends the process at once. */
function firstSignal(): Promise<void> {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  return new Promise((resolve) => {
    const onSignal = (): void => {
      for (const signal of signals) process.off(signal, onSignal);
      resolve();
    };
    for (const signal of signals) process.on(signal, onSignal);
  });
}

function readyLine({ url }: RunningServer, { info }: Engine): string {
  const { device } = info;
  const kvTokens = Math.floor(info.kvBytes / info.kvBytesPerToken);
  return (
    `Tandem serves ${info.model} on ${url} · ${device.name}, ${unitsText(device)}, ` +
    `${device.isa} · ${info.weights} weights · KV cache of ${kvTokens} tokens · context ${info.contextLength}`
  );
}

function unitsText({ kind, units }: Engine['info']['device']): string {
  const name = kind === 'cuda' ? 'SM' : 'core';
  return `${units} ${name}${units === 1 ? '' : 's'}`;
}
