import { Router } from 'express';
import { ApiError } from '../openai/errors.js';
import type { LoadedModel, Service } from '../service.js';

/** `GET /v1/models` and `/v1/models/:id`. */
export function modelsRouter(service: Service): Router {
  const router = Router();
  router.get('/v1/models', (_request, response) => {
    const { loaded } = service;
    response.json({ object: 'list', data: loaded ? [describe(loaded)] : [] });
  });
  router.get('/v1/models/:id', (request, response) => {
    const { loaded } = service;
    if (loaded?.engine.info.model !== request.params.id) {
      throw new ApiError(
        404,
        'invalid_request_error',
        `The model '${request.params.id}' does not exist here.`,
        {
          param: 'model',
          code: 'model_not_found',
        },
      );
    }
    response.json(describe(loaded));
  });
  return router;
}

function describe({ engine: { info }, loadedAt }: LoadedModel): object {
  return {
    id: info.model,
    object: 'model',
    created: Math.floor(loadedAt.getTime() / 1000),
    owned_by: 'tandem',
    max_model_len: info.contextLength,
    tandem: {
      family: info.spec.family,
      device: info.device,
      weights: info.weights,
      kv: { precision: info.kvPrecision, bytes: info.kvBytes },
    },
  };
}
