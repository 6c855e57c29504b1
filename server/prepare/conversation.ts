import type { ChatMessage, GrammarPart } from '../../engine/index.js';
import { answerGrammar } from '../grammar/answer-grammar.js';
import { namingParts, type PartNames } from '../openai/errors.js';
import type { SharedBody } from '../openai/schemas.js';
import { type GivenTool, prepareTools } from '../tools/prepare-tools.js';
import type { ToolChoice } from '../tools/schemas.js';
import { checkLeast, defaultMaxTokens, type PrepareContext, sharedFields } from './context.js';
import { renderPrompt, type TurnEnd } from './messages.js';
import type { Prepared } from './prepared.js';

/** What bodies that answer a conversation have in common. */
type ConversationBody = SharedBody & {
  readonly stream?: boolean | null | undefined;
  readonly tool_choice?: ToolChoice | null | undefined;
  readonly parallel_tool_calls?: boolean | null | undefined;
};

/** What each of the endpoints says in its own way. */
interface Conversation {
  /** What the messages become; the prompt that begins with them if absent. */
  readonly render?: typeof renderPrompt;
  readonly messages: readonly ChatMessage[];
  readonly tools: readonly GivenTool[];
  /** Where the parameters of a tool are, in the body. */
  readonly parametersAt: (index: number) => string;
  readonly turnEnd: TurnEnd;
  /** Further variables of the chat template. */
  readonly variables: Record<string, unknown>;
  readonly choices: number;
  readonly maxTokens: number | undefined;
  readonly partNames: PartNames;
  /** -1: none. */
  readonly logprobs: number;
  readonly includeUsage: boolean;
  /** Of the format that is asked for. */
  readonly format: GrammarPart | undefined;
}

/** A conversation that has become a request. Throws `ApiError`. */
export function prepareConversation(
  context: PrepareContext,
  body: ConversationBody,
  conversation: Conversation,
): Prepared {
  const { messages, turnEnd, variables, choices, partNames, logprobs, includeUsage } = conversation;
  const tools = prepareTools(context, {
    tools: conversation.tools,
    choice: body.tool_choice,
    parallel: body.parallel_tool_calls,
    parametersAt: conversation.parametersAt,
  });
  if (conversation.maxTokens !== undefined) checkLeast(body, conversation.maxTokens, partNames);
  const { render = renderPrompt } = conversation;
  const { prompt, images } = namingParts(partNames, () =>
    render(context, messages, { tools: tools.forTemplate, ...turnEnd, variables }),
  );
  const request = {
    ...tools.request,
    prompt,
    n: choices,
    maxTokens: conversation.maxTokens ?? defaultMaxTokens(context, prompt.length),
    logprobs,
    promptLogprobs: false,
    continuesPrompt: turnEnd.continuesLast,
    ...sharedFields(context, body),
  };
  const isUnlimited = conversation.maxTokens === undefined;
  return {
    kind: 'chat',
    stream: body.stream ?? false,
    includeUsage,
    choices,
    logprobs,
    prompts: [
      {
        partNames,
        ...(images && { images, isUnlimited }),
        ...tools.prompt,
        ...answerGrammar(body, conversation.format, tools.grammar),
        request,
      },
    ],
  };
}
