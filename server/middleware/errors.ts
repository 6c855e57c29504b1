import type { ErrorRequestHandler, RequestHandler } from 'express';
import type { Logger } from 'pino';
import { ApiError, errorBody, toApiError } from '../openai/errors.js';
import { type Endpoint, pagePaths } from '../openapi/endpoints.js';

/** The last handler: everything thrown becomes an error object with its status. */
export function errorHandler(logger: Logger): ErrorRequestHandler {
  return (thrown, _request, response, _next) => {
    const error = toApiError(thrown);
    if (error.status >= 500 && error !== thrown) logger.error({ err: thrown }, 'a request failed');
    if (response.headersSent) {
      response.end();
      return;
    }
    const { retryAfterSeconds } = error.details;
    if (retryAfterSeconds !== undefined) response.set('retry-after', String(Math.ceil(retryAfterSeconds)));
    response.status(error.status).json(errorBody(error));
  };
}

/** What no route took: a known path asked with another method, or no path at all. */
export function notFound(endpoints: readonly Endpoint[]): RequestHandler {
  const pages = pagePaths.map((path) => ({ path, method: 'GET' }));
  const known = [...endpoints, ...pages].map(({ path, method }) => ({
    method,
    pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}/?$`),
  }));
  return (request, response) => {
    const allowed = known.flatMap(({ method, pattern }) => (pattern.test(request.path) ? method : []));
    if (allowed.length > 0) {
      response.set('allow', allowed.join(', '));
      throw new ApiError(
        405,
        'invalid_request_error',
        `${request.path} takes ${allowed.join(' or ')}, not ${request.method}.`,
        { code: 'method_not_allowed' },
      );
    }
    throw new ApiError(404, 'invalid_request_error', `There is no ${request.method} ${request.path}.`, {
      code: 'not_found',
    });
  };
}
