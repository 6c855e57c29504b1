import express, { type RequestHandler } from 'express';
import { ApiError, bodyTooLarge } from '../openai/errors.js';

/**
 * Reads a body as bytes, up to the limit. It is parsed where it is prepared, which for a large one is another thread.
 */
export function jsonBody(limitBytes: number): RequestHandler[] {
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
    express.raw({ type: () => true, limit: limitBytes }),
    (request, _response, next) => {
      if (!Buffer.isBuffer(request.body)) request.body = Buffer.alloc(0);
      next();
    },
  ];
}
