import { Router } from 'express';
import type { Settings } from '../../config/schema.js';
import { imageTypes } from '../images/image-source.js';
import { checkModel } from '../prepare/context.js';
import type { LoadedModel, Service } from '../service.js';

/** `GET /v1/models` and `/v1/models/:id`. */
export function modelsRouter(service: Service): Router {
  const router = Router();
  router.get('/v1/models', (_request, response) => {
    const { loaded } = service;
    response.json({ object: 'list', data: loaded ? [describe(loaded, service.settings)] : [] });
  });
  router.get('/v1/models/:id', (request, response) => {
    const { model } = service;
    checkModel(model.engine.info, request.params.id);
    response.json(describe(model, service.settings));
  });
  return router;
}

function describe({ engine: { info }, loadedAt }: LoadedModel, { server }: Settings): object {
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
      ...(info.spec.vision && {
        images: {
          types: Object.keys(imageTypes),
          max_images: server.maxImages,
          max_pixels: server.maxImagePixels,
        },
      }),
    },
  };
}
