import { invalidRequest } from '../openai/errors.js';
import { parseBody } from '../openai/parse.js';
import { checkModel, type PrepareContext } from '../prepare/context.js';
import { prepareConversation } from '../prepare/conversation.js';
import { answerBegins } from '../prepare/messages.js';
import { summaryRequest, summaryTokens } from './compaction.js';
import { conversationItems, paramsBehind } from './conversation-items.js';
import type { FoundItems } from './found-items.js';
import { type Item, toMessages } from './items.js';
import { responseParts } from './prepare.js';
import type { CompactionPreparation } from './prepared.js';
import { CompactBody } from './schemas.js';

/** `POST /v1/responses/compact`: the conversation, and the request for its summary behind it. Throws `ApiError`. */
export function prepareCompaction(
  context: PrepareContext,
  bytes: Uint8Array,
  found?: FoundItems,
): CompactionPreparation {
  const body = parseBody(CompactBody, bytes);
  checkModel(context, body.model);
  const given = conversationItems(body, found);
  if ('needs' in given) return given;
  const { before, input } = given;
  const items = [...before, ...input];
  if (items.length === 0) throw invalidRequest("'input' is empty: there is nothing to compact.", 'input');
  const messages = [
    ...toMessages(body.instructions ?? null, items, paramsBehind(before.length)),
    summaryRequest,
  ];
  const prepared = prepareConversation(
    context,
    { temperature: 0 },
    {
      messages,
      tools: [],
      parametersAt: (index) => `tools.${index}.parameters`,
      turnEnd: answerBegins,
      variables: {},
      choices: 1,
      maxTokens: undefined,
      partNames: responseParts,
      logprobs: -1,
      includeUsage: true,
      format: undefined,
    },
  );
  // Of what the context has room for behind the conversation.
  const prompts = prepared.prompts.map(({ request, ...prompt }) => ({
    ...prompt,
    request: { ...request, maxTokens: Math.min(summaryTokens, request.maxTokens) },
  }));
  return { prepared: { ...prepared, prompts, kept: JSON.stringify(items.filter(staysAsItIs)) } };
}

/** What a conversation is held to is not left to a summary. */
function staysAsItIs(item: Item): boolean {
  return item.type === 'message' && (item.role === 'system' || item.role === 'developer');
}
