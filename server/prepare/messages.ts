import { randomBytes } from 'node:crypto';
import type { ChatMessage } from '../../engine/index.js';
import { imageSource } from '../images/image-source.js';
import { invalidRequest } from '../openai/errors.js';
import type { ChatBody } from '../openai/schemas.js';
import {
  contentFor,
  imagePart,
  imagesOf,
  isImage,
  joinedTexts,
  readsNoImages,
  type TemplatePart,
  unsupportedPart,
} from './content-parts.js';
import type { PrepareContext } from './context.js';
import type { PromptImages } from './prepared.js';

/** What stands at the end of a prompt. */
export interface TurnEnd {
  /** The beginning of an answer. */
  readonly addGenerationPrompt: boolean;
  /** The last message without what the template closes it with, so that the model goes on with it. */
  readonly continuesLast: boolean;
}

export const answerBegins: TurnEnd = { addGenerationPrompt: true, continuesLast: false };

interface RenderOptions extends TurnEnd {
  readonly tools?: readonly object[];
  readonly variables: Record<string, unknown>;
}

/** The prompt that messages become, with one token in the place of each of their images. */
export interface RenderedPrompt {
  readonly prompt: Int32Array;
  /** Absent where they show none. */
  readonly images?: PromptImages;
}

/** The prompt that a conversation becomes. Throws `ApiError` where the model has no template, or it refuses. */
export function renderPrompt(
  context: PrepareContext,
  messages: readonly ChatMessage[],
  options: RenderOptions,
): RenderedPrompt {
  return renderFrom(context, messages, options, (text) => text);
}

const answer = 'This was the answer.';

/**
 * What messages become behind an answer that the model has given: first what the template writes at an answer's end. Throws
 * `ApiError` also where the template does not write answers as they are.
 */
export function renderBehindAnswer(
  context: PrepareContext,
  messages: readonly ChatMessage[],
  options: RenderOptions,
): RenderedPrompt {
  const before = [
    { role: 'user', content: '' },
    { role: 'assistant', content: answer },
  ];
  return renderFrom(context, [...before, ...messages], options, (text) => {
    const at = text.indexOf(answer);
    if (at >= 0) return text.slice(at + answer.length);
    throw invalidRequest(
      "This model's chat template rewrites answers, so that messages cannot come behind one. Send a 'prompt'.",
      'request.messages',
    );
  });
}

function renderFrom(
  context: PrepareContext,
  messages: readonly ChatMessage[],
  options: RenderOptions,
  cut: (text: string) => string,
): RenderedPrompt {
  const { markup, tokenizer, maxImages, contextLength } = context;
  const encode = (text: string) => tokenizer.encode(text, { special: true, addBos: false, contextLength });
  const shown = messages.flatMap(imagesOf);
  if (!markup) {
    if (shown.length > 0) throw readsNoImages(shown[0]!.param);
    return { prompt: encode(cut(render(context, messages, options))) };
  }
  if (shown.length > maxImages) {
    throw invalidRequest(
      `The request shows ${shown.length} images; the limit is ${maxImages} (--max-images).`,
      shown[maxImages]!.param,
      'too_many_images',
    );
  }
  const sources = shown.map(imageSource);
  // A text is split where it would stand for an image, so that nobody's words are taken for one. It cannot be guessed where.
  const mark = randomBytes(16).toString('hex');
  const escaped = escapeTexts({ messages, options }, (text) => markup.escape(text, mark));
  const pieces = cut(render(context, escaped.messages, escaped.options)).split(mark);
  const prompt = joined(pieces.map(encode));
  const positions = markup.positionsIn(prompt);
  if (positions.length !== sources.length) {
    throw invalidRequest(
      `This model's chat template shows ${positions.length} of the ${sources.length} images of the request.`,
      sources[0]?.param ?? 'messages',
    );
  }
  return { prompt, ...(sources.length > 0 && { images: { sources, positions } }) };
}

function render(
  { template, templateWantsParts }: PrepareContext,
  messages: readonly ChatMessage[],
  options: RenderOptions,
): string {
  if (!template) {
    throw invalidRequest(
      'This model has no chat template. Use /v1/completions, or start the server with --chat-template.',
      'messages',
      'no_chat_template',
    );
  }
  const { tools = [], continuesLast, ...rest } = options;
  const readable = messages.map((message) => ({
    ...message,
    content: contentFor(message.content, templateWantsParts),
  }));
  const text = template.render({ messages: readable, ...rest, ...(tools.length > 0 && { tools }) });
  return continuesLast ? untilEndOf(messages, text) : text;
}

/** Ends where the text of the last message does. Many templates trim the texts of messages. */
function untilEndOf(messages: readonly ChatMessage[], rendered: string): string {
  const last = messages.at(-1);
  const param = `messages.${messages.length - 1}`;
  if (last?.role !== 'assistant' || typeof last.content !== 'string' || last.tool_calls) {
    throw invalidRequest(
      "'continue_final_message' needs a last message of the assistant that is a text and calls no tools.",
      param,
    );
  }
  for (const written of [last.content, last.content.trim()]) {
    const at = written === '' ? -1 : rendered.lastIndexOf(written);
    if (at >= 0) return rendered.slice(0, at + written.length);
  }
  throw invalidRequest(
    "The last message cannot be continued: it is empty, or this model's chat template rewrites it.",
    param,
  );
}

/** Most templates know texts: parts are joined where none is an image. `developer` is the newer name of `system`. */
export function toTemplateMessage(given: ChatBody['messages'][number], index: number): ChatMessage {
  const { tool_calls: calls, name, ...rest } = given;
  // For a template an absent name is better than a null.
  const message = { ...rest, ...(name != null && { name }) };
  const role = message.role === 'developer' ? 'system' : message.role;
  const toolCalls = calls && calls.length > 0 && { tool_calls: calls.map(toTemplateCall) };
  // Only a model may have said nothing, as where it called tools.
  if (message.content == null && message.role !== 'assistant') {
    const param = `messages.${index}.content`;
    throw invalidRequest(`'${param}' is missing: a message of the ${message.role} says something.`, param);
  }
  if (!Array.isArray(message.content)) {
    return { ...message, role, content: message.content ?? '', ...toolCalls };
  }
  const parts = message.content.map((part, i) =>
    toTemplatePart(part, message.role, `messages.${index}.content.${i}`),
  );
  return { ...message, role, content: joinedTexts(parts), ...toolCalls };
}

type ChatPart = Exclude<ChatBody['messages'][number]['content'], string | null | undefined>[number];

function toTemplatePart({ type, text, image_url }: ChatPart, role: string, param: string): TemplatePart {
  if (type === 'text' && text != null) return { type, text };
  if (type === 'image_url' && image_url != null) {
    const { url, detail } = image_url;
    return imagePart(url, detail, role, param);
  }
  throw unsupportedPart(type, param);
}

function toTemplateCall(call: NonNullable<ChatBody['messages'][number]['tool_calls']>[number]): object {
  const { function: called, ...rest } = call;
  return { ...rest, function: { ...called, arguments: parsedArguments(called.arguments) } };
}

/** Templates write the arguments of a call themselves, from the object; what is no object stays the text it is. */
export function parsedArguments(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? value : json;
  } catch {
    return json;
  }
}

/** The same value, each of its texts put through `change`; images stay as they are. */
function escapeTexts<Value>(value: Value, change: (text: string) => string): Value {
  if (typeof value === 'string') return change(value) as Value;
  if (Array.isArray(value)) return value.map((item: unknown) => escapeTexts(item, change)) as Value;
  if (typeof value !== 'object' || value === null || isImage(value)) return value;
  const entries = Object.entries(value).map(([key, item]) => [change(key), escapeTexts(item, change)]);
  return Object.fromEntries(entries) as Value;
}

function joined(arrays: readonly Int32Array[]): Int32Array {
  const [only] = arrays;
  if (only && arrays.length === 1) return only;
  const out = new Int32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    out.set(array, at);
    at += array.length;
  }
  return out;
}
