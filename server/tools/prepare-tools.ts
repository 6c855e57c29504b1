import type { GenerateRequest } from '../../engine/index.js';
import type { CallsGrammar } from '../grammar/answer-grammar.js';
import { invalidRequest } from '../openai/errors.js';
import type { PrepareContext } from '../prepare/context.js';
import type { ToolCallReading } from '../prepare/prepared.js';
import { type CallableFunction, callGrammar } from './call-grammar.js';
import { markerTokens } from './find-format.js';
import type { ToolChoice } from './schemas.js';

/** A function that the model may call. */
export interface FunctionTool {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly parameters?: Record<string, unknown> | null | undefined;
  readonly strict?: boolean | null | undefined;
}

/** A tool as a body has it, whichever endpoint it came to. */
export interface GivenTool {
  readonly type: string;
  readonly function: FunctionTool | undefined;
}

export interface GivenTools {
  readonly tools: readonly GivenTool[];
  readonly choice: ToolChoice | null | undefined;
  readonly parallel: boolean | null | undefined;
  /** Where the parameters of a tool are, in the body. */
  readonly parametersAt: (index: number) => string;
}

/** What tools mean for a prompt: what its template is given, and how the answer is read. */
export interface PreparedTools {
  readonly forTemplate: readonly object[];
  readonly prompt: { readonly toolCalls?: ToolCallReading };
  readonly request: Pick<GenerateRequest, 'shownSpecialTokens'>;
  readonly grammar?: CallsGrammar;
}

const noTools: PreparedTools = { forTemplate: [], prompt: {}, request: {} };

/** Refuses by name what is not there. Where calls must be made, or arguments must fit, answers follow a grammar. */
export function prepareTools(
  { toolCallFormat, tokenizer }: PrepareContext,
  given: GivenTools,
): PreparedTools {
  const { choice, parallel, parametersAt } = given;
  const functions = given.tools.map((tool, index) => functionOf(tool, index, parametersAt(index)));
  const named = nameIn(choice);
  const isForced = choice === 'required' || named !== undefined;
  if (named !== undefined && !functions.some(({ name }) => name === named)) {
    throw invalidRequest(`'tool_choice' names '${named}', which is not one of the tools.`, 'tool_choice');
  }
  if (functions.length === 0 && isForced) throw invalidRequest("'tool_choice' needs 'tools'.", 'tool_choice');
  if (functions.length === 0 || choice === 'none') return noTools;
  if (toolCallFormat === undefined) {
    throw invalidRequest(
      "'tools' are not supported by this model: its chat template writes no calls of a kind that is known here.",
      'tools',
      'unsupported_parameter',
    );
  }
  const callable = functions
    .map((tool, index): CallableFunction => ({ tool, param: parametersAt(index) }))
    .filter(({ tool }) => named === undefined || tool.name === named);
  const single = parallel === false || named !== undefined;
  const options = { format: toolCallFormat, functions: callable, single };
  return {
    forTemplate: functions.map((tool) => ({ type: 'function', function: withoutNulls(tool) })),
    prompt: {
      toolCalls: {
        format: toolCallFormat,
        names: functions.map(({ name }) => name),
        single,
        ...(isForced && { callsOnly: true }),
      },
    },
    request: { shownSpecialTokens: markerTokens(tokenizer, toolCallFormat) },
    grammar: {
      choice: isForced ? 'required' : 'auto',
      calls: callGrammar({ ...options, forced: true }),
      ...(functions.some(({ strict }) => strict) && { mixed: callGrammar({ ...options, forced: false }) }),
    },
  };
}

function functionOf({ type, function: tool }: GivenTool, index: number, parametersAt: string): FunctionTool {
  if (type !== 'function') {
    throw invalidRequest(
      `Tools of type '${type}' are not supported; there are functions.`,
      `tools.${index}.type`,
      'unsupported_parameter',
    );
  }
  if (!tool) throw invalidRequest('A function needs a name.', `tools.${index}`);
  const allowed = tool.parameters?.type;
  if (allowed !== undefined && ![allowed].flat().includes('object')) {
    const param = `${parametersAt}.type`;
    throw invalidRequest(`Invalid '${param}': the arguments of a function are an 'object'.`, param);
  }
  return tool;
}

/** The function that has to be called, if one is named. */
function nameIn(choice: ToolChoice | null | undefined): string | undefined {
  if (choice == null || typeof choice === 'string') return undefined;
  if (choice.type !== 'function') {
    throw invalidRequest(
      `'tool_choice' of type '${choice.type}' is not supported; there is 'function'.`,
      'tool_choice.type',
      'unsupported_parameter',
    );
  }
  const name = choice.name ?? choice.function?.name;
  if (name === undefined) throw invalidRequest("'tool_choice' needs the name of a function.", 'tool_choice');
  return name;
}

/** Templates write what they are given; `strict` is not for the model, and an absent field is better than a null. */
function withoutNulls({ strict: _, ...tool }: FunctionTool): object {
  return Object.fromEntries(Object.entries(tool).filter(([, value]) => value != null));
}
