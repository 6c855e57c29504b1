import type { ApiKey } from '../keys/api-key.js';
import type { ApiError } from '../openai/errors.js';
import { newId } from '../openai/ids.js';
import type { PreparationResult } from '../prepare/preparations.js';
import { PromptRun } from '../prompt-run.js';
import type { Service } from '../service.js';
import type { AnswerEvent } from '../tools/tool-call-events.js';
import type { FoundItems, ResponseNeeds } from './found-items.js';
import type { PreparedResponse } from './prepared.js';
import { type ResponseEvent, ResponseEvents, type ResponseResource } from './response-events.js';
import { itemNotFound, previousNotFound } from './store.js';

/** Finds what a response refers to; rejects with the `ApiError` that names what is not there. */
export type Finder = (needs: ResponseNeeds) => Promise<FoundItems>;

type Continuing = 'response' | 'responseFrame' | 'compaction';
type PreparedOf<K extends Continuing> = Extract<PreparationResult[K], { prepared: unknown }>['prepared'];

/** Prepares a body, and again with what it refers to, if it does. */
export async function prepareContinuing<K extends Continuing>(
  service: Service,
  key: ApiKey,
  kind: K,
  body: Uint8Array,
  left: AbortSignal,
  find: Finder = (needs) => findStored(service, key, needs),
): Promise<PreparedOf<K>> {
  const { preparer } = service.model;
  const since = performance.now();
  const first = await preparer.prepare(kind, body, { left, since });
  if ('prepared' in first) return first.prepared as PreparedOf<K>;
  const second = await preparer.prepare(kind, body, { found: await find(first.needs), left, since });
  if ('prepared' in second) return second.prepared as PreparedOf<K>;
  throw new Error('a response asked twice for what it refers to');
}

export async function findStored(
  { store }: Service,
  { name }: ApiKey,
  needs: ResponseNeeds,
): Promise<FoundItems> {
  if (store) return store.find(name, needs);
  const { previousResponseId, itemIds } = needs;
  throw previousResponseId === null ? itemNotFound(itemIds[0]!) : previousNotFound(previousResponseId);
}

/** One response from the first event to the last, whoever it is sent to. */
export class ResponseAnswer {
  readonly run: PromptRun;
  readonly isStored: boolean;
  readonly #events: ResponseEvents;

  constructor(
    private readonly service: Service,
    private readonly key: ApiKey,
    readonly prepared: PreparedResponse,
    /** What it continues is known to this socket alone, so the conversation is kept with it. */
    private readonly carriesConversation = false,
  ) {
    const id = newId('resp_');
    this.run = new PromptRun(service, key, id, prepared.prompts);
    this.isStored = prepared.store && service.store !== undefined;
    this.#events = new ResponseEvents(id, service.model.engine.info.model, prepared, this.isStored);
  }

  next(events: readonly AnswerEvent[]): ResponseEvent[] {
    return this.#events.next(events);
  }

  closing(): { event: ResponseEvent; response: ResponseResource } {
    const last = this.#events.closing(this.run.usages[0]!);
    this.#keep(last.response);
    return last;
  }

  failure(error: ApiError): ResponseEvent {
    const last = this.#events.failure(error);
    this.#keep(last.response);
    return last.event;
  }

  /** Nothing waits for it: what is asked of the store later comes behind it. */
  #keep(response: ResponseResource): void {
    if (!this.isStored) return;
    const { input, inputIds, conversation, previousResponseId } = this.prepared;
    this.service
      .store!.put({
        id: response.id,
        owner: this.key.name,
        previousId: previousResponseId,
        resource: JSON.stringify(response),
        input,
        conversation: this.carriesConversation ? conversation : null,
        itemIds: [...inputIds, ...response.output.map(({ id }) => id)],
      })
      .catch((error: Error) => {
        this.service.metrics.responsesNotKept.inc();
        this.service.logger.error({ id: response.id, err: error.message }, 'a response was not kept');
      });
  }
}
