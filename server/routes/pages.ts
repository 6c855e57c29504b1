import { createRequire } from 'node:module';
import path from 'node:path';
import { type RequestHandler, Router } from 'express';
import { packageRoot } from '../../config/package-root.js';

/** Documents and styles as they are written; what they run is compiled from beside them. */
const written = path.join(packageRoot, 'server/web');
const compiled = path.join(packageRoot, 'dist/server/web');

/** A page runs and shows what comes from this server, talks to nobody else, and stands in no frame. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const securityHeaders: RequestHandler = (_request, response, next) => {
  response.set({
    'content-security-policy': policy,
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'camera=(), microphone=(), geolocation=()',
    'x-frame-options': 'DENY',
    // The next version of the server may bring another page.
    'cache-control': 'no-cache',
  });
  next();
};

/** `/`, the playground, and `/dashboard`. They hold nothing secret: a key is needed for what they ask for. */
export function pagesRouter(): Router {
  const router = Router();
  const uplot = path.dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const get = (url: string | RegExp, root: string, fileOf: (url: string) => string): void => {
    router.get(url, securityHeaders, (request, response, next) => {
      response.sendFile(fileOf(request.path), { root }, (error) => {
        if (error && !response.headersSent) next();
      });
    });
  };
  get('/', written, () => 'playground.html');
  get('/dashboard', written, () => 'dashboard.html');
  get('/assets/vendor/uplot.js', uplot, () => 'dist/uPlot.esm.js');
  get('/assets/vendor/uplot.css', uplot, () => 'dist/uPlot.min.css');
  get(/^\/assets\/[\w/-]+\.(css|svg)$/, written, belowAssets);
  get(/^\/assets\/[\w/-]+\.js$/, compiled, belowAssets);
  return router;
}

function belowAssets(url: string): string {
  return url.slice('/assets/'.length);
}
