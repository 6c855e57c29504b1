import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { longestPath, requestIdOf } from './middleware/request-log.js';
import { type ApiError, errorBody } from './openai/errors.js';
import type { Service } from './service.js';

export interface RefusedUpgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** Of the key that it came with. */
  readonly key?: string | undefined;
}

/** No route sees an upgrade: it is answered, counted and logged as any request that is refused, and its connection closed. */
export function refuseUpgrade(
  { logger, metrics }: Service,
  { request, socket, key }: RefusedUpgrade,
  error: ApiError,
): void {
  const { method, headers, url = '' } = request;
  const { status } = error;
  const { retryAfterSeconds } = error.details;
  const id = requestIdOf(headers);
  const body = JSON.stringify(errorBody(error));
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'connection: close',
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    // Who speaks another version learns which there are (RFC 6455, section 4.4).
    'sec-websocket-version: 13, 8',
    `x-request-id: ${id}`,
    ...(retryAfterSeconds === undefined ? [] : [`retry-after: ${Math.ceil(retryAfterSeconds)}`]),
  ];
  const path = url.split('?', 1)[0]!.slice(0, longestPath);
  metrics.httpRequests.inc({ status });
  logger.info({ id, key, from: request.socket.remoteAddress, method, path, status }, 'request');
  // Or it would be open for as long as the client leaves its own half so.
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
