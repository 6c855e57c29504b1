import express, { type Request, type RequestHandler } from 'express';
import { ApiError, bodyTooLarge, invalidRequest } from '../openai/errors.js';

/**
 * Reads a body as bytes, up to the limit. It is parsed where it is prepared, which for a large one is another thread.
 */
export function jsonBody(limitBytes: number): RequestHandler[] {
  const readBytes = express.raw({ type: () => true, limit: limitBytes });
  return [
    (request, _response, next) => {
      const type = request.headers['content-type'];
      if (type !== undefined && !/^application\/([\w.-]+\+)?json\b/i.test(type)) {
        throw new ApiError(415, 'invalid_request_error', `Send application/json, not ${type}.`, {
          code: 'unsupported_media_type',
        });
      }
      // What parses bodies reads the whole of one that is too large before it says so; now Node reads it afterwards.
      if (Number(request.headers['content-length']) > limitBytes) throw bodyTooLarge(limitBytes);
      next();
    },
    (request, response, next) => {
      readBytes(request, response, (error) => {
        const encoding = request.headers['content-encoding'];
        next(error !== undefined && isFromZlib(error) ? badEncoding(encoding!, error) : error);
      });
    },
    (request, _response, next) => {
      if (!Buffer.isBuffer(request.body)) request.body = Buffer.alloc(0);
      next();
    },
  ];
}

/** The body, which goes with whoever takes it: the request stays until it is answered, which may take minutes. */
export function takeBody(request: Request): Buffer {
  const body = request.body as Buffer;
  request.body = undefined;
  return body;
}

/** What the parser itself finds wrong has a type. */
function isFromZlib(error: unknown): error is Error {
  return error instanceof Error && 'errno' in error && !('type' in error);
}

function badEncoding(encoding: string, { message }: Error): ApiError {
  return invalidRequest(
    `The body is not valid ${encoding}, as its content-encoding has it (${message}). Compress it whole, or leave that header out.`,
    undefined,
    'invalid_encoding',
  );
}
