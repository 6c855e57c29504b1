import type { RequestHandler } from 'express';
import type { Service } from '../service.js';
import { keyOf } from './auth.js';

/** Counts a request against its key, and says in headers what is left. Throws `ApiError` 429. */
export function limitRate(service: Service): RequestHandler {
  return (_request, response, next) => {
    const key = keyOf(response);
    try {
      service.admit(key);
    } finally {
      response.set(key.headers());
    }
    next();
  };
}
