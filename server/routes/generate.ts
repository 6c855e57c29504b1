import type { RequestHandler, Response } from 'express';
import { AnswerCollector } from '../collect.js';
import { dataEvent, doneEvent, type EventText, type StreamScript, streamEvents } from '../event-stream.js';
import { leftSignal } from '../left-signal.js';
import { keyOf } from '../middleware/auth.js';
import { takeBody } from '../middleware/json-body.js';
import { type ApiError, errorBody } from '../openai/errors.js';
import { newId } from '../openai/ids.js';
import { usageBody } from '../openai/usage.js';
import type { WireFormat } from '../openai/wire-format.js';
import type { Prepared } from '../prepare/prepared.js';
import { PromptRun } from '../prompt-run.js';
import type { Service } from '../service.js';
import { PieceStream } from '../stream-pieces.js';
import type { AnswerEvent } from '../tools/tool-call-events.js';

export interface Endpoint {
  readonly kind: 'chat' | 'completion';
  /** What ids begin with. */
  readonly idPrefix: string;
  readonly format: WireFormat;
}

/** Answers one of the two completion endpoints, whole or as a stream. */
export function generateHandler(service: Service, endpoint: Endpoint): RequestHandler {
  return async (request, response) => {
    const { preparer, engine } = service.model;
    const left = leftSignal(response);
    const prepared = await preparer.prepare(endpoint.kind, takeBody(request), { left });
    const id = newId(`${endpoint.idPrefix}-`);
    const head = { id, created: Math.floor(Date.now() / 1000), model: engine.info.model };
    const run = new PromptRun(service, keyOf(response), id, prepared.prompts);
    run.endWith(response);
    if (prepared.stream) {
      await streamEvents(service, response, run, new ChunkScript(endpoint.format, prepared, run, head));
    } else {
      await answerWhole(response, endpoint.format, prepared, run, head);
    }
  };
}

interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

async function answerWhole(
  response: Response,
  format: WireFormat,
  prepared: Prepared,
  run: PromptRun,
  { id, created, model }: Head,
): Promise<void> {
  const collectors = prepared.prompts.map((prompt, index) => new AnswerCollector(prepared, prompt, index));
  await run.run((index, events) => {
    for (const event of events) collectors[index]!.add(event);
  });
  if (response.destroyed) return;
  response.json({
    id,
    object: format.object,
    created,
    model,
    choices: collectors.flatMap((collector) => collector.answers()).map(format.choice),
    usage: usageBody(run.usages),
  });
}

/** The chunks of a streamed completion. */
class ChunkScript implements StreamScript {
  readonly #pieces: PieceStream[];
  /** What is the same in all chunks is made once; a chunk costs its own text only. */
  readonly #head: string;

  constructor(
    private readonly format: WireFormat,
    private readonly prepared: Prepared,
    private readonly run: PromptRun,
    { id, created, model }: Head,
  ) {
    this.#pieces = prepared.prompts.map((prompt, index) => new PieceStream(prepared, prompt, index));
    const head = JSON.stringify({ id, object: format.chunkObject, created, model });
    this.#head = `${head.slice(0, -1)},"choices":[`;
  }

  opening(): EventText[] {
    const choices = this.prepared.choices * this.prepared.prompts.length;
    const openings = Array.from({ length: choices }, (_, index) => this.format.opening(index));
    return this.#chunks(openings);
  }

  step(prompt: number, events: readonly AnswerEvent[]): EventText[] {
    return this.#chunks(this.#pieces[prompt]!.next(events).map((piece) => this.format.piece(piece)));
  }

  closing(): EventText[] {
    if (!this.prepared.includeUsage) return [doneEvent];
    const usage = JSON.stringify(usageBody(this.run.usages));
    return [dataEvent(`${this.#head}],"usage":${usage}}`), doneEvent];
  }

  failure(error: ApiError): EventText[] {
    return [dataEvent(JSON.stringify(errorBody(error)))];
  }

  #chunks(choices: readonly (object | undefined)[]): EventText[] {
    const usage = this.prepared.includeUsage ? ',"usage":null' : '';
    return choices
      .filter((choice) => choice !== undefined)
      .map((choice) => dataEvent(`${this.#head}${JSON.stringify(choice)}]${usage}}`));
  }
}
