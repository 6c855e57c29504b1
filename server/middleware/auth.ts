import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';
import { ApiError } from '../openai/errors.js';

/** Says whether a request carries one of the keys; without keys everyone may come. */
export type Authenticator = (request: IncomingMessage) => boolean;

export function authenticator(keys: readonly string[]): Authenticator {
  // Hashes have one length, so comparing them tells nothing of a key by the time it takes.
  const hashes = keys.map(hashOf);
  return (request) => {
    if (hashes.length === 0) return true;
    const header = request.headers.authorization ?? '';
    const given = hashOf(header.startsWith('Bearer ') ? header.slice('Bearer '.length) : '');
    let known = false;
    for (const hash of hashes) known = timingSafeEqual(hash, given) || known;
    return known;
  };
}

export function requireKey(mayEnter: Authenticator): RequestHandler {
  return (request, _response, next) => {
    if (!mayEnter(request)) {
      throw new ApiError(401, 'authentication_error', 'Give a valid API key: Authorization: Bearer <key>.', {
        code: 'invalid_api_key',
      });
    }
    next();
  };
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
