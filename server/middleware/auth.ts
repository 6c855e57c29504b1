import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';
import { ApiError } from '../openai/errors.js';

/** Begins a WebSocket's subprotocol that is a key, as base64url: a browser can set no other header of a socket. */
export const keyProtocol = 'tandem.key.';

/** Says whether a request carries one of the keys; without keys everyone may come. */
export type Authenticator = (request: IncomingMessage) => boolean;

export function authenticator(keys: readonly string[]): Authenticator {
  // Hashes have one length, so comparing them tells nothing of a key by the time it takes.
  const hashes = keys.map(hashOf);
  return (request) => {
    if (hashes.length === 0) return true;
    const given = hashOf(keyOf(request) ?? '');
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

function keyOf({ headers }: IncomingMessage): string | undefined {
  const bearer = headers.authorization;
  if (bearer !== undefined) return bearer.startsWith('Bearer ') ? bearer.slice('Bearer '.length) : undefined;
  const protocols = headers['sec-websocket-protocol']?.split(',').map((protocol) => protocol.trim());
  const encoded = protocols?.find((protocol) => protocol.startsWith(keyProtocol));
  return encoded && Buffer.from(encoded.slice(keyProtocol.length), 'base64url').toString();
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
