import express, { type Express } from 'express';
import { requireKey } from './middleware/auth.js';
import { cors } from './middleware/cors.js';
import { errorHandler, notFound } from './middleware/errors.js';
import { jsonBody } from './middleware/json-body.js';
import { limitRate } from './middleware/rate-limit.js';
import { requestLog } from './middleware/request-log.js';
import { chatFormat, completionFormat } from './openai/wire-format.js';
import { openApiDocument } from './openapi/document.js';
import { endpointsOf } from './openapi/endpoints.js';
import { adminRouter } from './routes/admin.js';
import { debugRouter } from './routes/debug.js';
import { generateHandler } from './routes/generate.js';
import { healthRouter } from './routes/health.js';
import { modelsRouter } from './routes/models.js';
import { pagesRouter } from './routes/pages.js';
import { responsesRouter } from './routes/responses.js';
import { tokenizeRouter } from './routes/tokenize.js';
import type { Service } from './service.js';

/** What is answered is data: nothing in it runs, frames it or keeps it. */
const securityHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

/** All HTTP endpoints over a service. */
export function createApp(service: Service): Express {
  const { settings, logger } = service;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(requestLog(logger, service.metrics));
  app.use((_request, response, next) => {
    response.set(securityHeaders);
    next();
  });
  if (settings.server.corsOrigin.length > 0) app.use(cors(settings.server.corsOrigin));
  const { adminKey } = settings.server;
  const published = endpointsOf(adminKey !== undefined);
  const document = JSON.stringify(openApiDocument(published));
  app.get('/openapi.json', (_request, response) => {
    response.type('json').send(document);
  });
  app.use(healthRouter(service));
  app.use(pagesRouter());
  const isNowhere = notFound(published);
  if (adminKey !== undefined) app.use(adminRouter(service, adminKey, isNowhere));
  app.use(requireKey(service.keys));
  app.use(modelsRouter(service));
  app.use(debugRouter(service));
  // While nothing can be served a body is not even read.
  app.post(/.*/, (_request, _response, next) => {
    void service.model;
    next();
  });
  app.post(/.*/, limitRate(service));
  app.post(
    published.filter(({ body }) => body).map(({ path }) => path),
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
  app.use(isNowhere);
  app.use(errorHandler(logger));
  return app;
}
