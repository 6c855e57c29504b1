import type { Random } from '../random.js';
import { type Streaming, streamCompletion, type Trace } from '../serve/completion-stream.js';
import { requestJson } from '../serve/http.js';
import type { PromptSource } from '../serve/prompt-source.js';
import { streamOverSocket } from '../serve/socket-stream.js';
import type { ServedModel, Target } from '../serve/target.js';

export interface SoakLoad {
  readonly target: Target;
  readonly model: ServedModel;
  readonly prompts: PromptSource;
  readonly random: Random;
  /** Told of each stream that was read to its end. */
  readonly onStream: (trace: Trace) => void;
  /** Told of each request that is over, with why it failed if it did. */
  readonly onRequest: (failure?: string) => void;
}

/** One client that does a bit of everything, one thing after another, until the time is over. */
export async function runClient(load: SoakLoad, isOver: () => boolean): Promise<void> {
  let previous: string | undefined;
  while (!isOver()) {
    const kind = load.random.below(10);
    try {
      const stream = load.random.below(2) === 0 ? streamCompletion : streamOverSocket;
      if (kind < 5) await readStream(load, stream);
      else if (kind < 7) await leaveStream(load, stream);
      else if (kind < 8) await askForJson(load);
      else previous = await respond(load, load.random.below(3) === 0 ? undefined : previous);
      load.onRequest();
    } catch (error) {
      previous = undefined;
      load.onRequest((error as Error).message);
    }
  }
}

function completion({ model, prompts, random }: SoakLoad) {
  const longest = Math.min(1024, Math.floor(model.contextLength / 2));
  const maxTokens = 8 + random.below(64);
  return { model: model.id, prompt: prompts.next(8 + random.below(longest - 8)), maxTokens };
}

async function readStream(load: SoakLoad, stream: Streaming): Promise<void> {
  const trace = await stream(load.target, completion(load));
  if (trace.error !== undefined) throw new Error(trace.error);
  load.onStream(trace);
}

/** Reads some of it, and closes the connection. */
async function leaveStream(load: SoakLoad, stream: Streaming): Promise<void> {
  const controller = new AbortController();
  let left = load.random.below(20);
  const onPiece = (): void => {
    if (left-- <= 0) controller.abort();
  };
  const trace = await stream(load.target, completion(load), { signal: controller.signal, onPiece });
  if (trace.error !== undefined) throw new Error(trace.error);
}

async function askForJson({ target, model, random }: SoakLoad): Promise<void> {
  const schema = {
    type: 'object',
    properties: { n: { type: 'integer' } },
    required: ['n'],
    additionalProperties: false,
  };
  await requestJson({
    target,
    method: 'POST',
    path: '/v1/completions',
    body: JSON.stringify({
      model: model.id,
      prompt: `A number, such as ${random.below(1e6)}, as JSON:`,
      max_tokens: 24,
      response_format: { type: 'json_schema', json_schema: { name: 'number', strict: true, schema } },
    }),
  });
}

/** Goes on from the response before, where there is one. */
async function respond({ target, model, random }: SoakLoad, previous: string | undefined): Promise<string> {
  const answer = await requestJson({
    target,
    method: 'POST',
    path: '/v1/responses',
    body: JSON.stringify({
      model: model.id,
      input: `Count to ${2 + random.below(8)}.`,
      max_output_tokens: 24,
      ...(previous !== undefined && { previous_response_id: previous }),
    }),
  });
  return (answer as { id: string }).id;
}
