import type { ServerSettings } from '../../config/schema.js';
import { ApiError } from '../openai/errors.js';
import { WorkerCalls } from '../worker-calls.js';
import type { FoundItems, ResponseNeeds } from './found-items.js';

/** A response to keep, as JSON texts; `conversation` only where what it continues is not kept itself. */
export interface StoredResponse {
  readonly id: string;
  /** The name of the key that it was made with; nobody else is shown it, or can go on from it. */
  readonly owner: string;
  readonly previousId: string | null;
  readonly resource: string;
  readonly input: string;
  readonly conversation: string | null;
  /** Of the items of input and output, by which others may refer to them. */
  readonly itemIds: readonly string[];
}

/** What may be asked of the store's thread. */
export type StoreCall =
  | { readonly do: 'open' }
  | { readonly do: 'put'; readonly response: StoredResponse }
  | { readonly do: 'get'; readonly owner: string; readonly id: string }
  | { readonly do: 'delete'; readonly owner: string; readonly id: string }
  | { readonly do: 'items'; readonly owner: string; readonly id: string }
  | { readonly do: 'find'; readonly owner: string; readonly needs: ResponseNeeds; readonly maxBytes: number }
  | { readonly do: 'close' };

/** What the thread is started with. */
export interface StoreSource {
  /** Absent: in memory. */
  readonly file: string | undefined;
  readonly limitBytes: number;
  readonly ttlSeconds: number;
}

/**
 * The responses that are kept, in a thread of their own: reading and writing never hold up a stream. Calls are answered in
 * order, so whoever has seen a response end can refer to it. What belongs to another owner is not there.
 */
export class ResponseStore {
  readonly #worker: WorkerCalls<StoreCall>;
  readonly #isInMemory: boolean;
  #isClosed = false;

  private constructor(
    source: StoreSource,
    private readonly maxConversationBytes: number,
  ) {
    this.#isInMemory = source.file === undefined;
    this.#worker = new WorkerCalls(new URL('./store-worker.js', import.meta.url), source);
  }

  /** Undefined with `--no-store`. Rejects if the file cannot be used. */
  static async open(settings: ServerSettings): Promise<ResponseStore | undefined> {
    if (!settings.store) return undefined;
    const { storeFile: file, storeLimit: limitBytes, storeTtlSeconds: ttlSeconds } = settings;
    const store = new ResponseStore({ file, limitBytes, ttlSeconds }, settings.bodyLimit);
    // What is in memory begins with the first response; a file shows its faults at once.
    if (file !== undefined) {
      await store.#worker.call({ do: 'open' }).catch(async (error: unknown) => {
        await store.#worker.close();
        throw error;
      });
    }
    return store;
  }

  async put(response: StoredResponse): Promise<void> {
    try {
      await this.#worker.call({ do: 'put', response });
    } catch (error) {
      // What is in memory would be gone now in any case.
      if (!this.#isInMemory || !this.#isClosed) throw error;
    }
  }

  /** The response as JSON text; null if it is not there. */
  get(owner: string, id: string): Promise<string | null> {
    return this.#worker.call({ do: 'get', owner, id });
  }

  /** Whether it was there. */
  delete(owner: string, id: string): Promise<boolean> {
    return this.#worker.call({ do: 'delete', owner, id });
  }

  /** All items that a response was made from, oldest first, as JSON text of an array; null if it is not there. */
  items(owner: string, id: string): Promise<string | null> {
    return this.#worker.call({ do: 'items', owner, id });
  }

  /** Rejects with `ApiError` 400 or 404 that names what is not there. */
  find(owner: string, needs: ResponseNeeds): Promise<FoundItems> {
    return this.#worker.call({ do: 'find', owner, needs, maxBytes: this.maxConversationBytes });
  }

  /** What was put is in the file then. What is in memory goes with the thread, which may not even have loaded. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (!this.#isInMemory && this.#worker.isRunning)
      await this.#worker.call({ do: 'close' }).catch(() => undefined);
    await this.#worker.close();
  }
}

export function previousNotFound(id: string): ApiError {
  return new ApiError(400, 'invalid_request_error', `The previous response '${id}' is not known here.`, {
    param: 'previous_response_id',
    code: 'previous_response_not_found',
  });
}

export function itemNotFound(id: string): ApiError {
  return new ApiError(400, 'invalid_request_error', `The item '${id}' is not known here.`, {
    param: 'input',
    code: 'item_not_found',
  });
}

export function conversationTooLarge(limitBytes: number): ApiError {
  return new ApiError(
    413,
    'invalid_request_error',
    `The conversation so far has more than ${limitBytes} bytes (--body-limit).`,
    { param: 'previous_response_id', code: 'body_too_large' },
  );
}
