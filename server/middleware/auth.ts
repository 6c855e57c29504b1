import { timingSafeEqual } from 'node:crypto';
import type { RequestHandler, Response } from 'express';
import type { ApiKey } from '../keys/api-key.js';
import { bearerOf, hashOf, type KeyRing } from '../keys/key-ring.js';
import { ApiError } from '../openai/errors.js';

/** Lets in who has a key of the ring; what comes behind finds it by `keyOf`. */
export function requireKey(keys: KeyRing): RequestHandler {
  return (request, response, next) => {
    const key = keys.find(request);
    if (!key) throw noKey();
    response.locals.apiKey = key;
    next();
  };
}

/** The key that `requireKey` let in. */
export function keyOf(response: Response): ApiKey {
  return response.locals.apiKey as ApiKey;
}

/** Its name; undefined where nobody was let in. */
export function keyNameOf(response: Response): string | undefined {
  return (response.locals.apiKey as ApiKey | undefined)?.name;
}

/** Lets in who has the one key of those who run the server. */
export function requireAdminKey(adminKey: string): RequestHandler {
  const hash = hashOf(adminKey);
  return (request, response, next) => {
    if (!timingSafeEqual(hash, hashOf(bearerOf(request) ?? ''))) {
      throw unauthorized('Give the admin key (--admin-key): Authorization: Bearer <key>.');
    }
    response.locals.apiKey = { name: 'admin' };
    next();
  };
}

export function noKey(): ApiError {
  return unauthorized('Give a valid API key: Authorization: Bearer <key>.');
}

function unauthorized(message: string): ApiError {
  return new ApiError(401, 'authentication_error', message, { code: 'invalid_api_key' });
}
