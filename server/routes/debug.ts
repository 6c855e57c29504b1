import { Router } from 'express';
import type { Service } from '../service.js';

/** `GET /debug/scheduler`: how the device is shared at the moment, and why. */
export function debugRouter(service: Service): Router {
  const router = Router();
  router.get('/debug/scheduler', async (_request, response) => {
    response.json(await service.model.engine.explain());
  });
  return router;
}
