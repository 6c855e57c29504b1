import pino from 'pino';
import { Settings } from '../../config/schema.js';
import { type Engine, openEngine } from '../../engine/index.js';
import { type RunningServer, startServer } from '../../server/server.js';
import { demoFolder } from './demo.js';
import { oneCore } from './one-core.js';

export interface TestServer extends RunningServer {
  /** That was loaded. */
  readonly engine: Engine;
  /** A figure of `/metrics` without labels. */
  metric(name: string): Promise<number>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
}

const silent = pino({ level: 'silent' }, { write: () => undefined });

/** A server on a free port of the loopback, with the demo model unless `load` is false. */
export async function testServer(
  over: {
    model?: Partial<Settings['model']>;
    engine?: Partial<Settings['engine']>;
    server?: Partial<Settings['server']>;
  } = {},
  load = true,
  logger = silent,
): Promise<TestServer> {
  const settings = Settings.parse({
    model: { path: demoFolder, ...over.model },
    engine: { ...oneCore, kvMemory: '256MiB', ...over.engine },
    server: { port: 0, ...over.server },
  });
  const server = await startServer(settings, logger);
  const engine = load ? await openEngine(settings) : undefined;
  if (engine) await server.serve(engine);
  return {
    ...server,
    get engine() {
      if (!engine) throw new Error('this server was started without a model');
      return engine;
    },
    async metric(name) {
      const text = await (await fetch(`${server.url}/metrics`)).text();
      const line = text.split('\n').find((row) => row.startsWith(`tandem:${name} `));
      return line === undefined ? Number.NaN : Number(line.split(' ')[1]);
    },
    post: (path, body, headers = {}) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
  };
}

/** Waits until a figure has a value; for what the server does after a client has left. */
export async function eventually(check: () => Promise<boolean>): Promise<void> {
  const until = Date.now() + 60_000;
  while (!(await check())) {
    if (Date.now() > until) throw new Error('what was waited for did not come');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
