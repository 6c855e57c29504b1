import type { ChatMessage } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import type { ChatBody } from '../openai/schemas.js';
import type { PrepareContext } from './context.js';

/** The prompt that a conversation becomes. Throws `ApiError` where the model has no template, or it refuses. */
export function renderPrompt(
  { template, tokenizer }: PrepareContext,
  messages: readonly ChatMessage[],
  options: {
    tools?: readonly object[];
    addGenerationPrompt: boolean;
    variables: Record<string, unknown>;
  },
): Int32Array {
  if (!template) {
    throw invalidRequest(
      'This model has no chat template. Use /v1/completions, or start the server with --chat-template.',
      'messages',
      'no_chat_template',
    );
  }
  const { tools = [], ...rest } = options;
  const text = template.render({ messages, ...rest, ...(tools.length > 0 && { tools }) });
  return tokenizer.encode(text, { special: true, addBos: false });
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
