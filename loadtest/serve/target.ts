import { z } from 'zod';
import { requestJson } from './http.js';

/** The server under test. */
export interface Target {
  readonly url: string;
  readonly apiKey?: string;
}

export interface ServedModel {
  readonly id: string;
  /** Prompt and output together, in tokens. */
  readonly contextLength: number;
}

const ModelList = z.object({
  data: z.array(z.object({ id: z.string(), max_model_len: z.int().positive() })).min(1),
});

/** The first model that the server offers. Throws an Error that says what the server answered instead. */
export async function servedModel(target: Target): Promise<ServedModel> {
  const parsed = ModelList.safeParse(await requestJson({ target, method: 'GET', path: '/v1/models' }));
  if (!parsed.success) {
    throw new Error(`${target.url}/v1/models lists no model with its max_model_len; is it loaded?`);
  }
  const { id, max_model_len: contextLength } = parsed.data.data[0]!;
  return { id, contextLength };
}
