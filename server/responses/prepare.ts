import type { ChatMessage } from '../../engine/index.js';
import { textFormatGrammar } from '../grammar/response-format.js';
import { invalidRequest } from '../openai/errors.js';
import { parseBody } from '../openai/parse.js';
import { checkModel, checkStreamOptions, type PrepareContext } from '../prepare/context.js';
import { prepareConversation } from '../prepare/conversation.js';
import { answerBegins } from '../prepare/messages.js';
import type { GivenTool } from '../tools/prepare-tools.js';
import { conversationItems, paramsBehind } from './conversation-items.js';
import type { FoundItems } from './found-items.js';
import { toMessages } from './items.js';
import type { PreparedResponse, ResponsePreparation } from './prepared.js';
import { ResponseBody, ResponseFrame } from './schemas.js';
import { refuseInFrames, refuseUnsupported } from './unsupported.js';

/** `POST /v1/responses`. Throws `ApiError`. */
export function prepareResponse(
  context: PrepareContext,
  bytes: Uint8Array,
  found?: FoundItems,
): ResponsePreparation {
  return prepareBody(context, parseBody(ResponseBody, bytes), found);
}

/** A frame of `WS /v1/responses`. Throws `ApiError`. */
export function prepareResponseFrame(
  context: PrepareContext,
  bytes: Uint8Array,
  found?: FoundItems,
): ResponsePreparation {
  const { type: _, ...body } = parseBody(ResponseFrame, bytes);
  refuseInFrames(body);
  return prepareBody(context, body, found);
}

function prepareBody(
  context: PrepareContext,
  body: ResponseBody,
  found: FoundItems | undefined,
): ResponsePreparation {
  checkModel(context, body.model);
  refuseUnsupported(body);
  checkStreamOptions(body);
  const items = conversationItems(body, found);
  if ('needs' in items) return items;
  const { input, before, conversation } = items;
  const messages = toMessages(body.instructions ?? null, [...before, ...input], paramsBehind(before.length));
  if (messages.length === 0)
    throw invalidRequest("'input' is empty: there is nothing to respond to.", 'input');
  const kept = { input: JSON.stringify(input), inputIds: input.map(({ id }) => id), conversation };
  return { prepared: { ...preparedFrom(context, body, messages), ...kept } };
}

function preparedFrom(
  context: PrepareContext,
  body: ResponseBody,
  messages: readonly ChatMessage[],
): Omit<PreparedResponse, 'input' | 'inputIds' | 'conversation'> {
  const shows = body.include?.includes('message.output_text.logprobs') ?? false;
  if (body.top_logprobs && !shows) {
    throw invalidRequest(
      "'top_logprobs' needs 'include' to name message.output_text.logprobs.",
      'top_logprobs',
    );
  }
  const prepared = prepareConversation(context, body, {
    messages,
    tools: (body.tools ?? []).map(givenTool),
    parametersAt: (index) => `tools.${index}.parameters`,
    turnEnd: answerBegins,
    variables: {},
    choices: 1,
    maxTokens: body.max_output_tokens ?? undefined,
    partNames: responseParts,
    logprobs: shows ? (body.top_logprobs ?? 0) : -1,
    includeUsage: true,
    format: textFormatGrammar(body.text?.format),
  });
  const { temperature, topP, presencePenalty, frequencyPenalty } = prepared.prompts[0]!.request.sampling;
  return {
    ...prepared,
    store: body.store ?? true,
    previousResponseId: body.previous_response_id ?? null,
    settings: {
      background: false,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      max_tool_calls: body.max_tool_calls ?? null,
      metadata: body.metadata ?? {},
      parallel_tool_calls: body.parallel_tool_calls ?? true,
      presence_penalty: presencePenalty,
      frequency_penalty: frequencyPenalty,
      previous_response_id: body.previous_response_id ?? null,
      prompt_cache_key: body.prompt_cache_key ?? null,
      reasoning: { effort: null, summary: null },
      safety_identifier: body.safety_identifier ?? null,
      service_tier: 'default',
      temperature,
      text: { format: shownFormat(body.text?.format), verbosity: 'medium' },
      tool_choice: body.tool_choice ?? 'auto',
      tools: (body.tools ?? []).map(shownTool),
      top_logprobs: body.top_logprobs ?? 0,
      top_p: topP,
      truncation: 'disabled',
      user: body.user ?? null,
    },
  };
}

/** What a body calls the parts of its request. */
export const responseParts = { prompt: 'input', maxTokens: 'max_output_tokens' };

type ResponseTool = NonNullable<ResponseBody['tools']>[number];

function givenTool({ type, name, description, parameters, strict }: ResponseTool): GivenTool {
  return { type, function: name === undefined ? undefined : { name, description, parameters, strict } };
}

function shownTool({ type, name, description, parameters, strict }: ResponseTool): object {
  const isStrict = strict ?? false;
  return { type, name, description: description ?? null, parameters: parameters ?? null, strict: isStrict };
}

function shownFormat(format: NonNullable<ResponseBody['text']>['format']): object {
  if (format?.type !== 'json_schema') return { type: format?.type ?? 'text' };
  const { type, name, description, schema, strict } = format;
  return { type, name, description: description ?? null, schema: schema ?? null, strict: strict ?? false };
}
