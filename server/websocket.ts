import type { IncomingMessage, Server } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import type { ApiKey } from './keys/api-key.js';
import { keyProtocol } from './keys/key-ring.js';
import { LiveFeed } from './live/live-feed.js';
import { LiveSocket } from './live/live-socket.js';
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

/** Serves WebSockets on the server's upgrades. Returns what closes all of them. */
export function serveWebSockets(server: Server, service: Service): () => void {
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
  server.on('upgrade', (request, socket, head) => {
    const refuse = (status: string): void => {
      // Or it would be open for as long as the client leaves its own half so.
      const close = () => socket.destroy();
      socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`, close);
    };
    socket.on('error', () => socket.destroy());
    // Not by `new URL`, which throws at what some clients send.
    const [pathname] = (request.url ?? '').split('?', 1);
    const path = paths.get(pathname!);
    if (!path) return refuse('404 Not Found');
    const key = service.keys.find(request);
    if (!key) return refuse('401 Unauthorized');
    if (!isWelcome(request, service.settings.server.corsOrigin)) return refuse('403 Forbidden');
    if (!service.isReady && !path.isAlwaysOpen) return refuse('503 Service Unavailable');
    if (key.openSockets >= service.settings.server.socketsPerKey) return refuse('429 Too Many Requests');
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      key.openSockets++;
      webSocket.on('close', () => key.openSockets--);
      path.open(webSocket, key);
    });
  });
  return () => {
    for (const socket of sockets.clients) socket.close(1001, 'The server is shutting down.');
    sockets.close();
    setTimeout(() => {
      for (const socket of sockets.clients) socket.terminate();
    }, closeMs).unref();
  };
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

/** The answer names a protocol that the client offered, but never the one that carries its key. */
function chooseProtocol(offered: ReadonlySet<string>): string | false {
  return [...offered].find((protocol) => !protocol.startsWith(keyProtocol)) ?? false;
}
