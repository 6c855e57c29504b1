import { type RequestHandler, Router } from 'express';
import { z } from 'zod';
import { LogSettings } from '../../config/schema.js';
import type { PolicyChange } from '../../engine/index.js';
import { requireAdminKey } from '../middleware/auth.js';
import { jsonBody } from '../middleware/json-body.js';
import { invalidRequest } from '../openai/errors.js';
import { parseBody } from '../openai/parse.js';
import type { Service } from '../service.js';

/** Other ways to share the device, as the settings of the same names; at least one. */
export const PolicyBody = z
  .strictObject({
    scheduler: z.enum(['nexus', 'chunked', 'prefill-first', 'static', 'reactive']).optional(),
    decode_slack: z.number().min(1).max(100).optional(),
    prefill_share: z.number().min(0.01).max(0.99).optional(),
    tbt_target_ms: z.int().min(1).optional(),
    ttft_target_ms: z.int().min(1).optional(),
  })
  .meta({ minProperties: 1 });

const policyFields = Object.keys(PolicyBody.shape)
  .map((field) => `'${field}'`)
  .join(', ');

export const LogLevelBody = z.strictObject({ level: LogSettings.shape.logLevel.unwrap() });

const bodyLimit = 16 * 1024;

/** `/v1/admin`: what those who run the server see and change while it runs. It has a key of its own. */
export function adminRouter(service: Service, adminKey: string, isNowhere: RequestHandler): Router {
  const { logger } = service;
  const router = Router();
  router.use('/v1/admin', requireAdminKey(adminKey));
  router.get('/v1/admin', async (_request, response) => {
    response.json(await state(service));
  });
  router.post('/v1/admin/drain', (_request, response) => {
    logger.warn('draining: asked for by /v1/admin/drain');
    service.askToDrain();
    response.status(202).json({ draining: true });
  });
  router.post('/v1/admin/policy', ...jsonBody(bodyLimit), async (request, response) => {
    const body = parseBody(PolicyBody, request.body as Buffer);
    if (Object.keys(body).length === 0) throw invalidRequest(`Give at least one of ${policyFields}.`);
    const { engine } = service.model;
    await service.changePolicy(toChange(body));
    logger.warn({ policy: body }, 'the policy was changed by /v1/admin/policy');
    response.json(await engine.explain());
  });
  router.post('/v1/admin/log-level', ...jsonBody(bodyLimit), (request, response) => {
    const { level } = parseBody(LogLevelBody, request.body as Buffer);
    logger.level = level;
    logger.warn({ logLevel: level }, 'the log level was changed by /v1/admin/log-level');
    response.json({ level });
  });
  // Not to be asked for an API key, which opens nothing here.
  router.all('/v1/admin{/*path}', isNowhere);
  return router;
}

async function state(service: Service): Promise<object> {
  const { loaded, keys, logger } = service;
  return {
    ready: service.isReady,
    draining: service.draining,
    log_level: logger.level,
    scheduler: (await loaded?.engine.explain().catch(() => undefined)) ?? null,
    keys: keys.keys.map(({ name, usage, openSockets, limits }) => ({
      name,
      requests: usage.requests,
      refused: usage.refused,
      prompt_tokens: usage.promptTokens,
      generated_tokens: usage.generatedTokens,
      open_sockets: openSockets,
      limits,
    })),
  };
}

function toChange(body: z.output<typeof PolicyBody>): PolicyChange {
  return {
    ...(body.scheduler !== undefined && { scheduler: body.scheduler }),
    ...(body.decode_slack !== undefined && { decodeSlack: body.decode_slack }),
    ...(body.prefill_share !== undefined && { prefillShare: body.prefill_share }),
    ...(body.tbt_target_ms !== undefined && { tbtTargetMs: body.tbt_target_ms }),
    ...(body.ttft_target_ms !== undefined && { ttftTargetMs: body.ttft_target_ms }),
  };
}
