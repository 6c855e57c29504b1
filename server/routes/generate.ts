import { randomUUID } from 'node:crypto';
import type { RequestHandler, Response } from 'express';
import type { TokenEvent, Usage } from '../../engine/index.js';
import { AnswerCollector } from '../collect.js';
import { EventStream } from '../event-stream.js';
import { Generation } from '../generation.js';
import { errorBody, toApiError } from '../openai/errors.js';
import { usageBody } from '../openai/usage.js';
import type { WireFormat } from '../openai/wire-format.js';
import type { Prepared } from '../prepare/prepared.js';
import type { Service } from '../service.js';
import { PieceStream } from '../stream-pieces.js';

export interface Endpoint {
  readonly kind: 'chat' | 'completion';
  /** What ids begin with. */
  readonly idPrefix: string;
  readonly format: WireFormat;
}

/** Answers one of the two generation endpoints, whole or as a stream. */
export function generateHandler(service: Service, endpoint: Endpoint): RequestHandler {
  return async (request, response) => {
    const { preparer, engine } = service.model;
    const prepared = await preparer.prepare(endpoint.kind, request.body as Buffer);
    const run = new Run(service, endpoint, prepared, response, engine.info.model);
    await (prepared.stream ? run.stream() : run.whole());
  };
}

class Run {
  readonly #id: string;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #generations: Generation[] = [];

  constructor(
    private readonly service: Service,
    private readonly endpoint: Endpoint,
    private readonly prepared: Prepared,
    private readonly response: Response,
    private readonly model: string,
  ) {
    this.#id = `${endpoint.idPrefix}-${randomUUID().replaceAll('-', '')}`;
  }

  async whole(): Promise<void> {
    const collectors = this.prepared.prompts.map(
      (prompt, index) => new AnswerCollector(this.prepared, prompt, index),
    );
    await this.#runAll((index, event) => collectors[index]!.add(event));
    if (this.response.destroyed) return;
    this.response.json({
      id: this.#id,
      object: this.endpoint.format.object,
      created: this.#created,
      model: this.model,
      choices: collectors.flatMap((collector) => collector.answers()).map(this.endpoint.format.choice),
      usage: usageBody(this.#usages()),
    });
  }

  async stream(): Promise<void> {
    const { format } = this.endpoint;
    const pieces = this.prepared.prompts.map(
      (prompt, index) => new PieceStream(this.prepared, prompt, index),
    );
    let events: EventStream | undefined;
    // Opened by the first event, so that a refusal still has its status.
    const open = (): EventStream => {
      if (events) return events;
      events = new EventStream(
        this.response,
        () => {
          for (const generation of this.#generations) generation.pause();
        },
        () => {
          for (const generation of this.#generations) generation.resume();
        },
      );
      const choices = this.prepared.choices * this.prepared.prompts.length;
      const openings = Array.from({ length: choices }, (_, index) => format.opening(index));
      events.send(openings.filter((opening) => opening !== undefined).map((choice) => this.#chunk(choice)));
      return events;
    };
    try {
      await this.#runAll(undefined, (index, batch) => {
        const shown = pieces[index]!.next(batch);
        if (shown.length > 0) open().send(shown.map((piece) => this.#chunk(format.piece(piece))));
      });
    } catch (error) {
      if (!events) throw error;
      const apiError = toApiError(error);
      this.service.logger.warn({ id: this.#id, err: apiError.message }, 'a stream ended with an error');
      events.send([JSON.stringify(errorBody(apiError))]);
      events.end();
      return;
    }
    if (this.response.destroyed) return;
    const stream = open();
    if (this.prepared.includeUsage) {
      stream.send([JSON.stringify({ ...this.#head(), choices: [], usage: usageBody(this.#usages()) })]);
    }
    stream.done();
  }

  /**
   * Runs all prompts side by side. Resolves when all are done, or when the client has left; rejects with the first
   * error, the others cancelled.
   */
  #runAll(
    onEvent?: (prompt: number, event: TokenEvent) => void,
    onBatch?: (prompt: number, events: readonly TokenEvent[]) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let open = this.prepared.prompts.length;
      const cancelAll = (): void => {
        for (const generation of this.#generations) generation.cancel();
      };
      this.response.on('close', () => {
        cancelAll();
        resolve();
      });
      if (this.response.destroyed) {
        resolve();
        return;
      }
      this.prepared.prompts.forEach(({ request }, prompt) => {
        const id = this.prepared.prompts.length > 1 ? `${this.#id}-${prompt}` : this.#id;
        const generation = new Generation(this.service, { ...request, id }, (events) => {
          onBatch?.(prompt, events);
          for (const event of events) {
            onEvent?.(prompt, event);
            if (event.type === 'error') {
              cancelAll();
              reject(event.error);
            }
            if (event.type === 'done' && --open === 0) resolve();
          }
        });
        this.#generations.push(generation);
      });
      try {
        for (const generation of this.#generations) generation.start();
      } catch (error) {
        cancelAll();
        reject(error);
      }
    });
  }

  #usages(): Usage[] {
    return this.#generations.flatMap(({ usage }) => usage ?? []);
  }

  #head(): object {
    return {
      id: this.#id,
      object: this.endpoint.format.chunkObject,
      created: this.#created,
      model: this.model,
    };
  }

  #chunk(choice: object): string {
    // What is the same in all chunks is made once; a chunk costs its own text only.
    this.#chunkHead ??= `${JSON.stringify(this.#head()).slice(0, -1)},"choices":[`;
    const usage = this.prepared.includeUsage ? ',"usage":null' : '';
    return `${this.#chunkHead}${JSON.stringify(choice)}]${usage}}`;
  }

  #chunkHead: string | undefined;
}
