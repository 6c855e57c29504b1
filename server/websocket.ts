import type { Server } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import type { ApiKey } from './keys/api-key.js';
import { ResponseSocket } from './responses/response-socket.js';
import type { Service } from './service.js';
import { StreamSocket } from './stream-socket.js';

/** What speaks on a socket of each path. */
const protocols = new Map<string, new (socket: WebSocket, service: Service, key: ApiKey) => object>([
  ['/v1/stream', StreamSocket],
  ['/v1/responses', ResponseSocket],
]);

/** Serves WebSockets on the server's upgrades. Returns what closes all of them. */
export function serveWebSockets(server: Server, service: Service): () => void {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: service.settings.server.bodyLimit });
  server.on('upgrade', (request, socket, head) => {
    const refuse = (status: string): void => {
      socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    };
    socket.on('error', () => socket.destroy());
    // Not by `new URL`, which throws at what some clients send.
    const [pathname] = (request.url ?? '').split('?', 1);
    const Protocol = protocols.get(pathname!);
    if (!Protocol) return refuse('404 Not Found');
    const key = service.keys.find(request);
    if (!key) return refuse('401 Unauthorized');
    if (!service.isReady) return refuse('503 Service Unavailable');
    if (key.openSockets >= service.settings.server.socketsPerKey) return refuse('429 Too Many Requests');
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      key.openSockets++;
      webSocket.on('close', () => key.openSockets--);
      new Protocol(webSocket, service, key);
    });
  });
  return () => {
    for (const socket of sockets.clients) socket.close(1001, 'The server is shutting down.');
    sockets.close();
  };
}
