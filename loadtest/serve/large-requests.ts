import type { Random } from '../random.js';
import { errorMessage, readText, send } from './http.js';
import { randomText } from './prompt-source.js';
import type { ServedModel, Target } from './target.js';

/** A request that is large in one way, made before it is sent. */
export interface Sending {
  readonly path: string;
  readonly body: Buffer;
}

/** A chat of one word in a body that is only large: all of it must be read and parsed, none of it tokenized. */
export function largeBody({ id }: ServedModel, bytes: number, random: Random): Sending {
  return sending('/v1/chat/completions', {
    model: id,
    max_tokens: 1,
    messages: [{ role: 'user', content: 'Hello' }],
    metadata: { text: randomText(bytes, random) },
  });
}

/** A prompt of text. A model whose context is shorter refuses it, once it has been tokenized. */
export function textToComplete({ id }: ServedModel, characters: number, random: Random): Sending {
  return sending('/v1/completions', { model: id, max_tokens: 1, prompt: randomText(characters, random) });
}

export function textToTokenize({ id }: ServedModel, characters: number, random: Random): Sending {
  return sending('/tokenize', {
    model: id,
    prompt: randomText(characters, random),
    add_special_tokens: false,
  });
}

/** Resolves when the whole answer is there. A refusal for length is an answer; any other is an Error. */
export async function post(target: Target, { path, body }: Sending): Promise<void> {
  const response = await send({ target, method: 'POST', path, body });
  const text = await readText(response);
  const tooLong = response.statusCode === 400 && text.includes('context_length_exceeded');
  if (response.statusCode === 200 || tooLong) return;
  throw new Error(`POST ${path} with ${body.length} bytes: ${response.statusCode} ${errorMessage(text)}`);
}

function sending(path: string, body: object): Sending {
  return { path, body: Buffer.from(JSON.stringify(body)) };
}
