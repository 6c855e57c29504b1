import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Settings } from '../config/schema.js';
import type { Engine } from '../engine/index.js';
import { createApp } from './app.js';
import { answerClientErrors } from './client-errors.js';
import { limitConnections } from './connection-limit.js';
import { IncomingRequest } from './incoming-request.js';
import { KeyRing } from './keys/key-ring.js';
import { readKeys } from './keys/read-keys.js';
import { Metrics } from './metrics.js';
import { OpenAnswers } from './open-answers.js';
import { ApiError } from './openai/errors.js';
import { Preparer } from './prepare/preparer.js';
import { ResponseStore } from './responses/store.js';
import { Service } from './service.js';
import { serveWebSockets } from './websocket.js';

export interface RunningServer {
  readonly url: string;
  /**
   * From now on requests are served. The server owns the engine and closes it. One that is lost is opened anew by `reopen`,
   * unless that was done already a short while before.
   */
  serve(engine: Engine, reopen?: () => Promise<Engine>): Promise<void>;
  /** Resolves when an administrator asks that it drain. */
  readonly drainAsked: Promise<void>;
  /** Takes no new work, lets what runs finish and be read within the grace period, then closes everything. */
  drain(): Promise<void>;
  /** Closes everything at once. */
  close(): Promise<void>;
}

/** An engine that is lost so soon after it was opened anew is given up: it would be lost for ever. */
const leastLifeMs = 10 * 60_000;
/** For who asks while nobody knows when there will be an engine. */
const usualRetrySeconds = 30;

/** Of one body. */
const mostPrompts = 128;

/** What waits to be prepared may hold as much memory as so many bodies of the largest kind. */
const waitingBodies = 16;

/** Longest that a client may take to send a request's headers, and the whole of it. */
const headersTimeoutMs = 10_000;
const requestTimeoutMs = 120_000;
/**
 * How long a connection stays open for another request: longer than nginx and the load balancers of clouds keep one to use it
 * again (60 s), since a request that meets the end of its connection is lost.
 */
const keepAliveMs = 75_000;

/**
 * Listens at once, and answers 503 until `serve` brings a model. Rejects if the address or the file of responses cannot
 * be had.
 */
export async function startServer(settings: Settings, logger: Logger): Promise<RunningServer> {
  const keys = new KeyRing(await readKeys(settings.server), settings.server, () => performance.now());
  const store = await ResponseStore.open(settings.server);
  const service = new Service(settings, new Metrics(), logger, keys, store);
  const http = createServer(
    {
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveMs,
      IncomingMessage: IncomingRequest,
    },
    createApp(service),
  );
  const answers = new OpenAnswers(http);
  answerClientErrors(http, answers, service.metrics);
  limitConnections(http, service.metrics, settings.server.maxConnections);
  http.on('connection', (socket) => {
    service.metrics.httpConnections.inc();
    socket.on('close', () => service.metrics.httpConnections.dec());
  });
  const closeSockets = serveWebSockets(http, answers, service);
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
    // Each ends threads, which takes a while.
    await Promise.all([store?.close(), service.loaded?.preparer.close(), service.loaded?.engine.close()]);
  };

  return {
    drainAsked: service.drainAsked,
    url: urlOf(http.address() as AddressInfo),
    async serve(engine, reopen) {
      const { model, server } = settings;
      const { maxQueue } = settings.engine;
      const source = {
        folder: path.resolve(model.path),
        ...(model.chatTemplate && { chatTemplate: model.chatTemplate }),
        model: engine.info.model,
        contextLength: engine.info.contextLength,
        trainedLength: engine.info.spec.contextLength,
        maxChoices: server.maxChoices,
        // More at once would find no place in the queue, however empty it is.
        maxPrompts: Math.min(mostPrompts, maxQueue),
        ...(engine.info.spec.vision && { vision: engine.info.spec.vision }),
        maxImages: server.maxImages,
        maxImagePixels: server.maxImagePixels,
      };
      const preparer = await Preparer.open(source, {
        most: maxQueue,
        bytes: waitingBodies * server.bodyLimit,
      });
      preparer.checkImages().catch((error: Error) => {
        // Or it was closed meanwhile.
        if (error instanceof ApiError) logger.warn(`${error.message} Texts are served all the same.`);
      });
      service.setModel({ engine, preparer, loadedAt: new Date() });
      watch(service, engine, reopen);
    },
    async drain() {
      const { gracePeriodMs } = settings.server;
      const end = performance.now() + gracePeriodMs;
      service.draining = true;
      // Idle connections stay: Node takes one for idle whose answer it has been given, sent or not.
      await service.loaded?.engine.drain(gracePeriodMs).catch(() => undefined);
      // What the last events caused to be written is on its way out before the sockets close.
      await new Promise((resolve) => setImmediate(resolve));
      await answers.sent(Math.max(0, end - performance.now()));
      await close();
    },
    close,
  };
}

/** Waits for the loss of an engine, and puts another one in its place. */
function watch(service: Service, engine: Engine, reopen: (() => Promise<Engine>) | undefined): void {
  const { logger, metrics } = service;
  const began = performance.now();
  const giveUp = (reason: string): void => {
    logger.fatal({ err: reason }, 'the engine is lost; restart the server');
    service.setFailure(`${reason} The server must be restarted.`, usualRetrySeconds);
  };
  void engine.lost.then(async ({ message, retryAfterSeconds = usualRetrySeconds }) => {
    const { loaded } = service;
    const isSecond = loaded?.isReopened === true && performance.now() - began < leastLifeMs;
    if (!reopen || !loaded || isSecond) {
      giveUp(message);
      return;
    }
    logger.error({ err: message }, 'the engine is lost; opening it anew');
    service.setFailure(`${message} It is being opened anew.`, retryAfterSeconds);
    try {
      // What it held of the device is free once it has ended.
      await engine.close();
      const fresh = await reopen();
      if (service.draining) {
        await fresh.close();
        return;
      }
      await service.keepPolicy(fresh);
      metrics.engineRestarts.inc();
      service.setModel({ ...loaded, engine: fresh, isReopened: true });
      logger.warn('the engine has been opened anew');
      watch(service, fresh, reopen);
    } catch (error) {
      giveUp(`${message} It could not be opened anew: ${(error as Error).message}`);
    }
  });
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
