import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Settings } from '../config/schema.js';
import type { Engine } from '../engine/index.js';
import { createApp } from './app.js';
import { Metrics } from './metrics.js';
import { authenticator } from './middleware/auth.js';
import { Preparer } from './prepare/preparer.js';
import { ResponseStore } from './responses/store.js';
import { Service } from './service.js';
import { serveWebSockets } from './websocket.js';

export interface RunningServer {
  readonly url: string;
  /** From now on requests are served. The server owns the engine and closes it. */
  serve(engine: Engine): Promise<void>;
  /** Takes no new work, lets what runs finish within the grace period, then closes everything. */
  drain(): Promise<void>;
  /** Closes everything at once. */
  close(): Promise<void>;
}

/** Longest that a client may take to send a request's headers, and the whole of it. */
const headersTimeoutMs = 10_000;
const requestTimeoutMs = 120_000;

/**
 * Listens at once, and answers 503 until `serve` brings a model. Rejects if the address or the file of responses cannot
 * be had.
 */
export async function startServer(settings: Settings, logger: Logger): Promise<RunningServer> {
  const mayEnter = authenticator(await apiKeys(settings));
  const store = await ResponseStore.open(settings.server);
  const service = new Service(settings, new Metrics(), logger, store);
  const http = createServer(
    { headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs },
    createApp(service, mayEnter),
  );
  http.on('connection', (socket) => {
    service.metrics.httpConnections.inc();
    socket.on('close', () => service.metrics.httpConnections.dec());
  });
  const closeSockets = serveWebSockets(http, service, mayEnter);
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(settings.server.port, settings.server.host, () => {
      http.off('error', reject);
      resolve();
    });
  }).catch(async (error: unknown) => {
    await store?.close();
    throw error;
  });

  const close = async (): Promise<void> => {
    service.draining = true;
    closeSockets();
    const closed = new Promise<void>((resolve) => http.close(() => resolve()));
    http.closeAllConnections();
    await closed;
    await store?.close();
    await service.loaded?.preparer.close();
    await service.loaded?.engine.close();
  };

  return {
    url: urlOf(http.address() as AddressInfo),
    async serve(engine) {
      const { model, server } = settings;
      const preparer = await Preparer.open({
        folder: path.resolve(model.path),
        ...(model.chatTemplate && { chatTemplate: model.chatTemplate }),
        model: engine.info.model,
        contextLength: engine.info.contextLength,
        maxChoices: server.maxChoices,
      });
      service.setModel({ engine, preparer, loadedAt: new Date() });
      void engine.lost.then((error) => {
        logger.fatal({ err: error.message }, 'the engine is lost; restart the server');
        service.setFailure(`${error.message} The server must be restarted.`);
      });
    },
    async drain() {
      service.draining = true;
      http.closeIdleConnections();
      await service.loaded?.engine.drain(settings.server.gracePeriodMs).catch(() => undefined);
      // What the last events caused to be written is on its way out before the sockets close.
      await new Promise((resolve) => setImmediate(resolve));
      await close();
    },
    close,
  };
}

async function apiKeys({ server }: Settings): Promise<string[]> {
  if (!server.apiKeyFile) return server.apiKey;
  const lines = (await readFile(server.apiKeyFile, 'utf8')).split('\n').map((line) => line.trim());
  return [...server.apiKey, ...lines.filter((line) => line !== '' && !line.startsWith('#'))];
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
