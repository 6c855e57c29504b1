import { Worker } from 'node:worker_threads';
import { openChatTemplate, openTokenizer, readGenerationDefaults } from '../../engine/index.js';
import { ApiError } from '../openai/errors.js';
import {
  type PrepareContext,
  prepareChat,
  prepareCompletion,
  prepareText,
  prepareTokens,
} from './prepare.js';
import type { Prepared, PreparedTokens } from './prepared.js';

/** What each kind of body becomes. */
export const preparations = {
  chat: prepareChat,
  completion: prepareCompletion,
  tokens: prepareTokens,
  text: prepareText,
};
export type Preparation = keyof typeof preparations;
export type PreparationResult = {
  chat: Prepared;
  completion: Prepared;
  tokens: PreparedTokens;
  text: { text: string };
};

/** All that a context is made of; a worker thread makes its own from this. */
export interface ContextSource {
  readonly folder: string;
  readonly chatTemplate?: string;
  readonly model: string;
  readonly contextLength: number;
  readonly maxChoices: number;
}

export async function openContext(source: ContextSource): Promise<PrepareContext> {
  const [tokenizer, template, defaults] = await Promise.all([
    openTokenizer(source.folder),
    openChatTemplate(source.folder, source.chatTemplate),
    readGenerationDefaults(source.folder),
  ]);
  return { ...source, tokenizer, template, defaults };
}

/** A worker's answer. */
export type PrepareReply =
  | { readonly call: number; readonly result: PreparationResult[Preparation] }
  | { readonly call: number; readonly error: Pick<ApiError, 'status' | 'type' | 'message' | 'details'> };

/** Bodies from this size on are prepared in a thread of their own: below it the hand-over costs more than the work. */
const smallBodyBytes = 32 * 1024;

/**
 * Turns bodies into requests: small ones at once, large ones in a worker thread, so that parsing 5 MB or tokenizing a
 * 100k-token prompt never holds up the thread that forwards tokens.
 */
export class Preparer {
  #nextCall = 0;
  readonly #calls = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  #worker: Worker | undefined;

  private constructor(
    private readonly context: PrepareContext,
    private readonly source: ContextSource,
  ) {}

  static async open(source: ContextSource): Promise<Preparer> {
    const preparer = new Preparer(await openContext(source), source);
    preparer.#worker = preparer.#startWorker();
    return preparer;
  }

  async prepare<K extends Preparation>(kind: K, body: Uint8Array): Promise<PreparationResult[K]> {
    if (body.byteLength < smallBodyBytes) {
      return preparations[kind](this.context, body) as PreparationResult[K];
    }
    this.#worker ??= this.#startWorker();
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#worker!.postMessage({ call, kind, body });
    });
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #startWorker(): Worker {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: this.source });
    worker.unref();
    worker.on('message', (reply: PrepareReply) => {
      const waiting = this.#calls.get(reply.call);
      this.#calls.delete(reply.call);
      if ('result' in reply) waiting?.resolve(reply.result as never);
      else
        waiting?.reject(
          new ApiError(reply.error.status, reply.error.type, reply.error.message, reply.error.details),
        );
    });
    // A template or text that kills the thread costs the bodies that were in it, and the next one starts anew.
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Error('the thread that prepares requests has ended')));
    return worker;
  }

  #fail(error: Error): void {
    this.#worker = undefined;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
}
