import type { GenerateRequest } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import type { PrepareContext } from '../prepare/context.js';
import type { ToolCallReading } from '../prepare/prepared.js';
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

interface GivenTools {
  readonly tools: readonly GivenTool[];
  readonly choice: ToolChoice | null | undefined;
  readonly parallel: boolean | null | undefined;
}

/** What tools mean for a prompt: what its template is given, and how the answer is read. */
export interface PreparedTools {
  readonly forTemplate: readonly object[];
  readonly prompt: { readonly toolCalls?: ToolCallReading };
  readonly request: Pick<GenerateRequest, 'shownSpecialTokens'>;
}

const noTools: PreparedTools = { forTemplate: [], prompt: {}, request: {} };

/** Refuses by name what cannot be promised: without constrained decoding no call can be forced, nor its arguments held. */
export function prepareTools(
  { toolCallFormat, tokenizer }: PrepareContext,
  { tools, choice, parallel }: GivenTools,
): PreparedTools {
  if (choice != null && choice !== 'none' && choice !== 'auto') {
    throw invalidRequest(
      "'tool_choice' can be 'auto' or 'none': no call can be forced yet.",
      'tool_choice',
      'unsupported_parameter',
    );
  }
  const functions = tools.map(({ type, function: tool }, index) => {
    if (type !== 'function') {
      throw invalidRequest(
        `Tools of type '${type}' are not supported; there are functions.`,
        `tools.${index}.type`,
        'unsupported_parameter',
      );
    }
    if (!tool) throw invalidRequest('A function needs a name.', `tools.${index}`);
    if (tool.strict) {
      throw invalidRequest(
        "'strict' cannot be true: arguments are not held to their schema yet.",
        `tools.${index}.strict`,
        'unsupported_parameter',
      );
    }
    return tool;
  });
  if (functions.length === 0 || choice === 'none') return noTools;
  if (toolCallFormat === undefined) {
    throw invalidRequest(
      "'tools' are not supported by this model: its chat template writes no calls of a kind that is known here.",
      'tools',
      'unsupported_parameter',
    );
  }
  return {
    forTemplate: functions.map((tool) => ({ type: 'function', function: withoutNulls(tool) })),
    prompt: {
      toolCalls: {
        format: toolCallFormat,
        names: functions.map(({ name }) => name),
        single: parallel === false,
      },
    },
    request: { shownSpecialTokens: markerTokens(tokenizer, toolCallFormat) },
  };
}

/** Templates write what they are given; `strict` is not for the model, and an absent field is better than a null. */
function withoutNulls({ strict: _, ...tool }: FunctionTool): object {
  return Object.fromEntries(Object.entries(tool).filter(([, value]) => value != null));
}
