import type { RequestHandler } from 'express';

const rateHeaders = ['requests', 'tokens', 'tokens-day'].flatMap((limit) =>
  ['limit', 'remaining', 'reset'].map((what) => `x-ratelimit-${what}-${limit}`),
);

/** Lets browsers of the given origins call; `*` is any. Without origins there are no CORS headers at all. */
export function cors(origins: readonly string[]): RequestHandler {
  return (request, response, next) => {
    const { origin } = request.headers;
    if (!origin || !(origins.includes('*') || origins.includes(origin))) {
      next();
      return;
    }
    response.set({
      'access-control-allow-origin': origins.includes('*') ? '*' : origin,
      'access-control-expose-headers': `x-request-id, retry-after, ${rateHeaders.join(', ')}`,
      vary: 'Origin',
    });
    if (request.method !== 'OPTIONS') {
      next();
      return;
    }
    response.set({
      'access-control-allow-methods': 'GET, POST, DELETE, OPTIONS',
      'access-control-allow-headers':
        request.headers['access-control-request-headers'] ?? 'authorization, content-type',
      'access-control-max-age': '600',
    });
    response.status(204).end();
  };
}
