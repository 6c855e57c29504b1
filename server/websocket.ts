import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { ApiKey } from './keys/api-key.js';
import { keyProtocol } from './keys/key-ring.js';
import { LiveFeed } from './live/live-feed.js';
import { LiveSocket } from './live/live-socket.js';
import { noKey } from './middleware/auth.js';
import type { OpenAnswers } from './open-answers.js';
import { ApiError, invalidRequest } from './openai/errors.js';
import { refuseUpgrade } from './refuse-upgrade.js';
import { ResponseSocket } from './responses/response-socket.js';
import type { Service } from './service.js';
import { StreamSocket } from './stream-socket.js';

interface Path {
  /** Begins to speak on a socket. */
  open(socket: WebSocket, key: ApiKey): object;
  /** Whether it has anything to say while no request would be served. */
  readonly isAlwaysOpen?: boolean;
}

/** What clients have to answer the close of the server in; one that does not read would hold it for long. */
const closeMs = 1000;

/** Serves WebSockets on the server's upgrades, behind what `answers` has open. Returns what closes all of them. */
export function serveWebSockets(server: Server, answers: OpenAnswers, service: Service): () => void {
  const feed = new LiveFeed(service);
  const paths = new Map<string, Path>([
    ['/v1/stream', { open: (socket, key) => new StreamSocket(socket, service, key) }],
    ['/v1/responses', { open: (socket, key) => new ResponseSocket(socket, service, key) }],
    ['/debug/live', { open: (socket) => new LiveSocket(socket, service, feed), isAlwaysOpen: true }],
  ]);
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: service.settings.server.bodyLimit,
    handleProtocols: chooseProtocol,
  });
  const answer = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // Not by `new URL`, which throws at what some clients send.
    const [pathname] = (request.url ?? '').split('?', 1);
    const path = paths.get(pathname!);
    const key = service.keys.find(request);
    const refusal = path ? refusalOf(service, request, path, key) : notASocket(pathname!);
    if (refusal) {
      refuseUpgrade(service, { request, socket, key: key?.name }, refusal);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      key!.openSockets++;
      webSocket.on('close', () => key!.openSockets--);
      path!.open(webSocket, key!);
    });
  };
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    // The answers to requests that came before it on the connection would be taken for frames.
    answers.afterLast(request.socket, () => answer(request, socket, head));
  });
  sockets.on('wsClientError', (error, socket, request) => {
    const key = service.keys.find(request)?.name;
    refuseUpgrade(service, { request, socket, key }, noHandshake(error));
  });
  return () => {
    for (const socket of sockets.clients) socket.close(1001, 'The server is shutting down.');
    sockets.close();
    setTimeout(() => {
      for (const socket of sockets.clients) socket.terminate();
    }, closeMs).unref();
  };
}

/** Why a socket may not be opened; undefined where it may. */
function refusalOf(
  { settings, unavailable }: Service,
  request: IncomingMessage,
  { isAlwaysOpen }: Path,
  key: ApiKey | undefined,
): ApiError | undefined {
  const { corsOrigin, socketsPerKey } = settings.server;
  if (!key) return noKey();
  if (!isWelcome(request, corsOrigin)) return fromElsewhere(request);
  if (unavailable && !isAlwaysOpen) return unavailable;
  return key.openSockets < socketsPerKey ? undefined : tooManySockets(socketsPerKey);
}

/**
 * Browsers let a page of any origin open a socket anywhere, and say only where it comes from. So a page elsewhere is held to
 * the same list as its other requests.
 */
function isWelcome({ headers }: IncomingMessage, corsOrigin: readonly string[]): boolean {
  const { origin, host } = headers;
  if (origin === undefined || corsOrigin.includes('*') || corsOrigin.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function notASocket(path: string): ApiError {
  return new ApiError(404, 'invalid_request_error', `There is no WebSocket at ${path}.`, {
    code: 'not_found',
  });
}

function fromElsewhere({ headers }: IncomingMessage): ApiError {
  const message = `Pages of ${headers.origin} may open no WebSocket here (--cors-origin).`;
  return new ApiError(403, 'permission_error', message, { code: 'origin_not_allowed' });
}

function tooManySockets(most: number): ApiError {
  const message = `The key has ${most} WebSockets open, as many as it may (--sockets-per-key).`;
  return new ApiError(429, 'rate_limit_error', message, { code: 'too_many_sockets' });
}

/** `ws` says what is wrong. */
function noHandshake({ message }: Error): ApiError {
  return invalidRequest(`This opens no WebSocket: ${message}.`, undefined, 'invalid_handshake');
}

/** The answer names a protocol that the client offered, but never the one that carries its key. */
function chooseProtocol(offered: ReadonlySet<string>): string | false {
  return [...offered].find((protocol) => !protocol.startsWith(keyProtocol)) ?? false;
}
