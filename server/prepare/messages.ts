import type { ChatMessage } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import type { ChatBody } from '../openai/schemas.js';
import type { PrepareContext } from './context.js';

interface RenderOptions {
  readonly tools?: readonly object[];
  readonly addGenerationPrompt: boolean;
  readonly variables: Record<string, unknown>;
}

/** The prompt that a conversation becomes. Throws `ApiError` where the model has no template, or it refuses. */
export function renderPrompt(
  context: PrepareContext,
  messages: readonly ChatMessage[],
  options: RenderOptions,
): Int32Array {
  return context.tokenizer.encode(render(context, messages, options), { special: true, addBos: false });
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
): Int32Array {
  const before = [
    { role: 'user', content: '' },
    { role: 'assistant', content: answer },
  ];
  const text = render(context, [...before, ...messages], options);
  const at = text.indexOf(answer);
  if (at < 0) {
    throw invalidRequest(
      "This model's chat template rewrites answers, so that messages cannot come behind one. Send a 'prompt'.",
      'request.messages',
    );
  }
  return context.tokenizer.encode(text.slice(at + answer.length), { special: true, addBos: false });
}

function render(
  { template }: PrepareContext,
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
  const { tools = [], ...rest } = options;
  return template.render({ messages, ...rest, ...(tools.length > 0 && { tools }) });
}

/** Templates know texts; OpenAI's content parts are joined, and `developer` is the newer name of `system`. */
export function toTemplateMessage(given: ChatBody['messages'][number], index: number): ChatMessage {
  const { tool_calls: calls, ...message } = given;
  const role = message.role === 'developer' ? 'system' : message.role;
  const toolCalls = calls && calls.length > 0 && { tool_calls: calls.map(toTemplateCall) };
  if (!Array.isArray(message.content)) {
    return { ...message, role, content: message.content ?? '', ...toolCalls };
  }
  const texts = message.content.map((part, i) => {
    if (part.type === 'text' && part.text !== undefined) return part.text;
    throw invalidRequest(
      `Content parts of type '${part.type}' are not supported; this model reads text.`,
      `messages.${index}.content.${i}`,
      'unsupported_content',
    );
  });
  return { ...message, role, content: texts.join(''), ...toolCalls };
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
