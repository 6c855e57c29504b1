import { Router } from 'express';
import type { Service } from '../service.js';

/** `POST /tokenize` and `/detokenize`, as vLLM has them. */
export function tokenizeRouter(service: Service): Router {
  const router = Router();
  router.post('/tokenize', async (request, response) => {
    const { preparer, engine } = service.model;
    const { tokens } = await preparer.prepare('tokens', request.body as Buffer);
    response.json({
      count: tokens.length,
      max_model_len: engine.info.contextLength,
      tokens: Array.from(tokens),
    });
  });
  router.post('/detokenize', async (request, response) => {
    const { text } = await service.model.preparer.prepare('text', request.body as Buffer);
    response.json({ prompt: text });
  });
  return router;
}
