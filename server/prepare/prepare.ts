import { echoOf } from '../echo.js';
import { answerGrammar } from '../grammar/answer-grammar.js';
import { formatGrammar } from '../grammar/response-format.js';
import { invalidRequest, namingParts } from '../openai/errors.js';
import { parseBody } from '../openai/parse.js';
import { ChatBody, CompletionBody, DetokenizeBody, TokenizeBody } from '../openai/schemas.js';
import { refuseUnsupported } from '../openai/unsupported.js';
import { type GivenTools, prepareTools } from '../tools/prepare-tools.js';
import { checkLeast, checkModel, checkStreamOptions, type PrepareContext, sharedFields } from './context.js';
import { prepareConversation } from './conversation.js';
import { renderBehindAnswer, renderPrompt, type TurnEnd, toTemplateMessage } from './messages.js';
import type { Prepared, PreparedPrompt, PreparedTokens } from './prepared.js';

/** `POST /v1/chat/completions`. Throws `ApiError`. */
export function prepareChat(context: PrepareContext, bytes: Uint8Array): Prepared {
  return prepareChatWith(renderPrompt, context, bytes);
}

/** The same body, of which the messages come behind an answer that the model has just given. */
export function prepareChatUpdate(context: PrepareContext, bytes: Uint8Array): Prepared {
  return prepareChatWith(renderBehindAnswer, context, bytes);
}

function prepareChatWith(render: typeof renderPrompt, context: PrepareContext, bytes: Uint8Array): Prepared {
  const body = parseBody(ChatBody, bytes);
  checkModel(context, body.model);
  refuseUnsupported(body);
  checkStreamOptions(body);
  if (body.top_logprobs && !body.logprobs) {
    throw invalidRequest("'top_logprobs' needs 'logprobs' to be true.", 'top_logprobs');
  }
  return prepareConversation(context, body, {
    render,
    messages: body.messages.map(toTemplateMessage),
    ...chatTools(body),
    turnEnd: turnEnd(body),
    variables: body.chat_template_kwargs ?? {},
    choices: choicesOf(context, body.n),
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    partNames: {
      prompt: 'messages',
      maxTokens: body.max_completion_tokens == null ? 'max_tokens' : 'max_completion_tokens',
    },
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : -1,
    includeUsage: body.stream_options?.include_usage ?? false,
    format: formatGrammar(body.response_format),
  });
}

/** `POST /v1/completions`. Throws `ApiError`. */
export function prepareCompletion(context: PrepareContext, bytes: Uint8Array): Prepared {
  const body = parseBody(CompletionBody, bytes);
  checkModel(context, body.model);
  refuseUnsupported(body);
  checkStreamOptions(body);
  const stream = body.stream ?? false;
  const echo = body.echo ?? false;
  const choices = choicesOf(context, body.n);
  const bestOf = body.best_of ?? choices;
  if (bestOf < choices) throw invalidRequest("'best_of' must be at least 'n'.", 'best_of');
  if (bestOf > context.maxChoices)
    throw invalidRequest(`'best_of' is at most ${context.maxChoices}.`, 'best_of');
  if (bestOf > choices && stream) throw invalidRequest("'best_of' cannot be streamed.", 'best_of');
  const logprobs = body.logprobs ?? -1;
  const maxTokens = body.max_tokens ?? 16;
  if (maxTokens === 0 && !echo) {
    throw invalidRequest("'max_tokens' of 0 is of use only with 'echo'.", 'max_tokens');
  }
  const partNames = { prompt: 'prompt', maxTokens: 'max_tokens' };
  checkLeast(body, maxTokens, partNames);
  const grammar = answerGrammar(body, formatGrammar(body.response_format));
  const prompts = namingParts(partNames, () => promptsOf(context, body)).map(
    ({ given, prompt }): PreparedPrompt => ({
      ...(echo && { echo: echoOf(given, context.tokenizer.decode(prompt, { skipSpecial: false })) }),
      partNames,
      ...grammar,
      request: {
        prompt,
        n: bestOf,
        maxTokens,
        // To choose the best of some, their own logprobs are needed.
        logprobs: bestOf > choices ? Math.max(logprobs, 0) : logprobs,
        promptLogprobs: echo && logprobs >= 0,
        continuesPrompt: true,
        ...sharedFields(context, body),
      },
    }),
  );
  return {
    kind: 'completion',
    stream,
    includeUsage: body.stream_options?.include_usage ?? false,
    choices,
    logprobs,
    prompts,
  };
}

/** `POST /tokenize`: of a text, or of messages as the model would see them. */
export function prepareTokens(context: PrepareContext, bytes: Uint8Array): PreparedTokens {
  const body = parseBody(TokenizeBody, bytes);
  checkModel(context, body.model);
  if ((body.prompt === undefined) === (body.messages === undefined)) {
    throw invalidRequest("Give either 'prompt' or 'messages'.", 'prompt');
  }
  if (body.messages) {
    const tools = prepareTools(context, {
      ...chatTools(body),
      choice: body.tool_choice,
      parallel: body.parallel_tool_calls,
    });
    // All are counted, however many.
    const counting = { ...context, contextLength: Number.POSITIVE_INFINITY };
    const { prompt, images } = renderPrompt(counting, body.messages.map(toTemplateMessage), {
      tools: tools.forTemplate,
      ...turnEnd(body),
      variables: body.chat_template_kwargs ?? {},
    });
    return { tokens: prompt, ...(images && { images }) };
  }
  const addBos = body.add_special_tokens ?? true;
  return { tokens: context.tokenizer.encode(body.prompt ?? '', { special: true, addBos }) };
}

/** `POST /detokenize`. */
export function prepareText(context: PrepareContext, bytes: Uint8Array): { text: string } {
  const body = parseBody(DetokenizeBody, bytes);
  checkModel(context, body.model);
  checkVocabulary(context, body.tokens, 'tokens');
  return { text: context.tokenizer.decode(body.tokens, { skipSpecial: false }) };
}

function promptsOf(
  context: PrepareContext,
  { prompt, add_special_tokens: addBos }: CompletionBody,
): { given: string | number[]; prompt: Int32Array }[] {
  const list: (string | number[])[] = isTokenIds(prompt) || typeof prompt === 'string' ? [prompt] : prompt;
  if (list.length === 0 || list.length > context.maxPrompts) {
    throw invalidRequest(
      `'prompt' holds ${list.length} prompts; it may hold 1 to ${context.maxPrompts} here.`,
      'prompt',
    );
  }
  return list.map((given) => {
    if (typeof given === 'string') {
      const { tokenizer, contextLength } = context;
      return {
        given,
        prompt: tokenizer.encode(given, { special: true, addBos: addBos ?? true, contextLength }),
      };
    }
    checkVocabulary(context, given, 'prompt');
    return { given, prompt: Int32Array.from(given) };
  });
}

function chatTools({ tools }: Pick<ChatBody, 'tools'>): Pick<GivenTools, 'tools' | 'parametersAt'> {
  return {
    tools: (tools ?? []).map(({ type, function: tool }) => ({ type, function: tool })),
    parametersAt: (index) => `tools.${index}.function.parameters`,
  };
}

/** What stands at the end of the prompt: the beginning of an answer, that of the last message, or nothing. */
function turnEnd({
  add_generation_prompt: addPrompt,
  continue_final_message: goesOn,
}: Pick<ChatBody, 'add_generation_prompt' | 'continue_final_message'>): TurnEnd {
  if (addPrompt && goesOn) {
    throw invalidRequest(
      "'continue_final_message' cannot go with 'add_generation_prompt'.",
      'continue_final_message',
    );
  }
  return { addGenerationPrompt: addPrompt ?? !goesOn, continuesLast: goesOn ?? false };
}

function isTokenIds(prompt: CompletionBody['prompt']): prompt is number[] {
  return Array.isArray(prompt) && typeof prompt[0] === 'number';
}

function checkVocabulary({ tokenizer }: PrepareContext, tokens: readonly number[], param: string): void {
  const unknown = tokens.find((token) => token >= tokenizer.vocabSize);
  if (unknown !== undefined) {
    throw invalidRequest(
      `Token ${unknown} is not in the vocabulary of ${tokenizer.vocabSize} tokens.`,
      param,
    );
  }
}

function choicesOf({ maxChoices }: PrepareContext, n: number | null | undefined): number {
  const choices = n ?? 1;
  if (choices > maxChoices) throw invalidRequest(`'n' is at most ${maxChoices} here (--max-choices).`, 'n');
  return choices;
}
