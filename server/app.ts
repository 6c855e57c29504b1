import express, { type Express } from 'express';
import { type Authenticator, requireKey } from './middleware/auth.js';
import { cors } from './middleware/cors.js';
import { errorHandler, notFound } from './middleware/errors.js';
import { jsonBody } from './middleware/json-body.js';
import { requestLog } from './middleware/request-log.js';
import { chatFormat, completionFormat } from './openai/wire-format.js';
import { debugRouter } from './routes/debug.js';
import { generateHandler } from './routes/generate.js';
import { healthRouter } from './routes/health.js';
import { modelsRouter } from './routes/models.js';
import { pagesRouter } from './routes/pages.js';
import { responsesRouter } from './routes/responses.js';
import { tokenizeRouter } from './routes/tokenize.js';
import type { Service } from './service.js';

/** The paths there are, for those who come with the wrong method. */
const methods = new Map([
  ['/v1/chat/completions', 'POST'],
  ['/v1/completions', 'POST'],
  ['/v1/responses', 'POST'],
  ['/tokenize', 'POST'],
  ['/detokenize', 'POST'],
  ['/v1/models', 'GET'],
  ['/debug/scheduler', 'GET'],
  ['/health', 'GET'],
  ['/ready', 'GET'],
  ['/metrics', 'GET'],
  ['/', 'GET'],
  ['/dashboard', 'GET'],
]);

/** All HTTP endpoints over a service. */
export function createApp(service: Service, mayEnter: Authenticator): Express {
  const { settings, logger } = service;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(requestLog(logger));
  app.use((_request, response, next) => {
    response.set({ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' });
    next();
  });
  if (settings.server.corsOrigin.length > 0) app.use(cors(settings.server.corsOrigin));
  app.use(healthRouter(service));
  app.use(pagesRouter());
  app.use(requireKey(mayEnter));
  app.use(modelsRouter(service));
  app.use(debugRouter(service));
  // While nothing can be served a body is not even read.
  app.post(/.*/, (_request, _response, next) => {
    void service.model;
    next();
  });
  app.post(
    [...methods].filter(([, method]) => method === 'POST').map(([path]) => path),
    ...jsonBody(settings.server.bodyLimit),
  );
  app.post(
    '/v1/chat/completions',
    generateHandler(service, { kind: 'chat', idPrefix: 'chatcmpl', format: chatFormat }),
  );
  app.post(
    '/v1/completions',
    generateHandler(service, { kind: 'completion', idPrefix: 'cmpl', format: completionFormat }),
  );
  app.use(responsesRouter(service));
  app.use(tokenizeRouter(service));
  app.use(notFound(methods));
  app.use(errorHandler(logger));
  return app;
}
