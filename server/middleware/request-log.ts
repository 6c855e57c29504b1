import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { RequestHandler } from 'express';
import type { Logger } from 'pino';
import type { Metrics } from '../metrics.js';
import { keyNameOf } from './auth.js';

/** What nginx writes for a client that left before the answer was whole. */
const clientLeft = 499;
/** Of a path that is logged, in characters. */
export const longestPath = 256;
const quietPaths = new Set(['/health', '/ready', '/metrics']);

/** The one that was sent, or a new one. */
export function requestIdOf(headers: IncomingHttpHeaders): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && /^[\w.-]{1,128}$/.test(given) ? given : randomUUID();
}

/** An id for each request, and one line when it ends: who asked for what. Nothing of its body is logged. */
export function requestLog(logger: Logger, { httpRequests }: Metrics): RequestHandler {
  return (request, response, next) => {
    const begin = performance.now();
    const id = requestIdOf(request.headers);
    response.set('x-request-id', id);
    response.on('close', () => {
      const status = response.writableFinished ? response.statusCode : clientLeft;
      httpRequests.inc({ status });
      const line = {
        id,
        key: keyNameOf(response),
        from: request.socket.remoteAddress,
        method: request.method,
        path: request.path.slice(0, longestPath),
        status,
        ms: Math.round((performance.now() - begin) * 10) / 10,
      };
      // Who asks every few seconds is told by the answer; a fault of the server has a line of its own.
      if (quietPaths.has(request.path)) logger.debug(line, 'request');
      else if (status >= 500) logger.error(line, 'request');
      else logger.info(line, 'request');
    });
    next();
  };
}
