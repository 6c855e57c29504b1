import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Metrics } from './metrics.js';
import type { OpenAnswers } from './open-answers.js';
import { ApiError, errorBody } from './openai/errors.js';

/**
 * What Node refuses before there is a request: no route and no middleware sees it. It is answered behind the answers to the
 * requests that came before it on the connection.
 */
export function answerClientErrors(http: Server, answers: OpenAnswers, metrics: Metrics): void {
  const refused = new WeakSet<Socket>();
  http.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // A client that left has done nothing wrong, nor one that opened a connection for later: it would take what it is told for
    // the answer to the request that it is about to send.
    const hasAsked = socket.bytesRead > 0;
    if (error.code === 'ECONNRESET' || !socket.writable || !hasAsked) {
      socket.destroy();
      return;
    }
    // Of what comes behind it nothing can be read either.
    if (refused.has(socket)) return;
    refused.add(socket);
    const [status, reason, message] = statusOf(error.code);
    metrics.malformedRequests.inc();
    const body = JSON.stringify(
      errorBody(new ApiError(status, 'invalid_request_error', message, { code: 'malformed_request' })),
    );
    const head =
      `HTTP/1.1 ${status} ${reason}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n`;
    answers.afterLast(socket, () => socket.end(head + body, () => socket.destroy()));
  });
}

function statusOf(code: string | undefined): [number, string, string] {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return [431, 'Request Header Fields Too Large', 'The headers of the request are too large.'];
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return [408, 'Request Timeout', 'The request came too slowly.'];
  return [400, 'Bad Request', 'This is no HTTP request.'];
}
