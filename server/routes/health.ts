import { Router } from 'express';
import type { Service } from '../service.js';

/** `/health`: the process is alive. `/ready`: it would take a request now. `/metrics`: Prometheus. */
export function healthRouter(service: Service): Router {
  const router = Router();
  router.get('/health', (_request, response) => {
    response.json({ status: 'ok' });
  });
  router.get('/ready', (_request, response) => {
    // Throws the 503 that says why not.
    const { engine } = service.model;
    response.json({ status: 'ready', model: engine.info.model });
  });
  router.get('/metrics', async (_request, response) => {
    const stats = await service.loaded?.engine.stats().catch(() => undefined);
    response.type(service.metrics.registry.contentType).send(await service.metrics.text(stats));
  });
  return router;
}
