import { type RequestHandler, Router } from 'express';
import { z } from 'zod';
import { AnswerCollector } from '../collect.js';
import { doneEvent, namedEvent, type StreamScript, streamEvents } from '../event-stream.js';
import { leftSignal } from '../left-signal.js';
import { keyOf } from '../middleware/auth.js';
import { takeBody } from '../middleware/json-body.js';
import { ApiError, invalidRequest } from '../openai/errors.js';
import { newId } from '../openai/ids.js';
import { checked } from '../openai/parse.js';
import { PromptRun } from '../prompt-run.js';
import { prepareContinuing, ResponseAnswer } from '../responses/answer.js';
import { compactionOf } from '../responses/compaction.js';
import type { Item } from '../responses/items.js';
import { responseUsage } from '../responses/usage.js';
import type { Service } from '../service.js';

/** `POST /v1/responses`, and what was kept of earlier ones. */
export function responsesRouter(service: Service): Router {
  const router = Router();
  router.post('/v1/responses', createHandler(service));
  router.post('/v1/responses/compact', compactHandler(service));
  router.get('/v1/responses/:id', async (request, response) => {
    const { id } = request.params;
    if (request.query.stream === 'true') {
      throw invalidRequest('A response that has ended is not streamed again; get it without it.', 'stream');
    }
    const resource = await service.store?.get(keyOf(response).name, id);
    if (!resource) throw notFound(service, id);
    response.type('json').send(resource);
  });
  router.delete('/v1/responses/:id', async (request, response) => {
    const { id } = request.params;
    if (!(await service.store?.delete(keyOf(response).name, id))) throw notFound(service, id);
    response.json({ id, object: 'response', deleted: true });
  });
  router.get('/v1/responses/:id/input_items', async (request, response) => {
    const { id } = request.params;
    const page = checked(InputItemsQuery, request.query);
    const items = await service.store?.items(keyOf(response).name, id);
    if (!items) throw notFound(service, id);
    response.json(pageOf(JSON.parse(items) as Item[], page));
  });
  router.post('/v1/responses/:id/cancel', async (request, response) => {
    const { id } = request.params;
    if (!(await service.store?.get(keyOf(response).name, id))) throw notFound(service, id);
    throw invalidRequest(
      'Only a response made with background: true can be cancelled, and there are none here.',
    );
  });
  return router;
}

function createHandler(service: Service): RequestHandler {
  return async (request, response) => {
    const key = keyOf(response);
    const left = leftSignal(response);
    const prepared = await prepareContinuing(service, key, 'response', takeBody(request), left);
    const answer = new ResponseAnswer(service, key, prepared);
    answer.run.endWith(response);
    if (prepared.stream) {
      await streamEvents(service, response, answer.run, scriptOf(answer));
      return;
    }
    await answer.run.run((_, events) => answer.next(events));
    if (!response.destroyed) response.json(answer.closing().response);
  };
}

/** A summary takes the place of a conversation, but for what it is held to. */
function compactHandler(service: Service): RequestHandler {
  return async (request, response) => {
    const key = keyOf(response);
    const left = leftSignal(response);
    const prepared = await prepareContinuing(service, key, 'compaction', takeBody(request), left);
    const id = newId('resp_');
    const run = new PromptRun(service, key, id, prepared.prompts);
    const summary = new AnswerCollector(prepared, prepared.prompts[0]!, 0);
    run.endWith(response);
    await run.run((_, events) => {
      for (const event of events) summary.add(event);
    });
    if (response.destroyed) return;
    const kept = JSON.parse(prepared.kept) as Item[];
    response.json({
      id,
      object: 'response.compaction',
      created_at: Math.floor(Date.now() / 1000),
      output: [...kept, compactionOf(summary.answers()[0]!.text)],
      usage: responseUsage(run.usages[0]!),
    });
  };
}

function scriptOf(answer: ResponseAnswer): StreamScript {
  return {
    opening: () => [],
    step: (_, events) => answer.next(events).map(namedEvent),
    closing: () => [namedEvent(answer.closing().event), doneEvent],
    failure: (error) => [namedEvent(answer.failure(error)), doneEvent],
  };
}

export const InputItemsQuery = z.object({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().optional(),
});

function pageOf(items: readonly Item[], { limit, order, after }: z.output<typeof InputItemsQuery>): object {
  const ordered = order === 'asc' ? items : items.toReversed();
  const begin = after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && begin === 0) {
    throw invalidRequest(`The response has no item '${after}'.`, 'after');
  }
  const data = ordered.slice(begin, begin + limit);
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: begin + limit < ordered.length,
  };
}

function notFound({ store }: Service, id: string): ApiError {
  const reason = store ? '' : ' This server keeps none (--no-store).';
  return new ApiError(404, 'invalid_request_error', `Response with id '${id}' not found.${reason}`, {
    code: 'response_not_found',
  });
}
