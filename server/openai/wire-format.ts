import type { TokenLogprob } from '../../engine/index.js';
import type { ToolCallDelta } from '../tools/tool-call-events.js';
import { chatLogprobs, completionLogprobs } from './logprobs.js';

/** A call of a finished answer; the arguments are JSON as the model wrote it. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** A choice of a finished answer. */
export interface Answer {
  readonly index: number;
  readonly text: string;
  readonly toolCalls: readonly ToolCall[];
  readonly finishReason: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
}

/** A piece of a streamed choice: text, or what came of a call; the last one has a reason and neither. */
export interface Piece {
  readonly index: number;
  readonly text: string;
  readonly finishReason: string | null;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly toolCall?: ToolCallDelta;
}

/** How chat and text completions differ on the wire; everything else about answering them is one piece of code. */
export interface WireFormat {
  readonly object: string;
  readonly chunkObject: string;
  choice(answer: Answer): object;
  /** Nothing where it has no word for it. */
  piece(piece: Piece): object | undefined;
  /** What a stream begins each choice with, if anything. */
  opening(index: number): object | undefined;
}

function chatToolCall({ id, name, arguments: json }: ToolCall): object {
  return { id, type: 'function', function: { name, arguments: json } };
}

/** Who is called comes first, then the arguments in pieces; that they have ended is not said. */
export function chatToolCallDelta(delta: ToolCallDelta): object | undefined {
  switch (delta.type) {
    case 'begin':
      return { index: delta.index, ...chatToolCall({ ...delta, arguments: '' }) };
    case 'arguments':
      return { index: delta.index, function: { arguments: delta.text } };
    case 'end':
      return undefined;
  }
}

export const chatFormat: WireFormat = {
  object: 'chat.completion',
  chunkObject: 'chat.completion.chunk',
  choice: ({ index, text, toolCalls, finishReason, logprobs }) => ({
    index,
    message: {
      role: 'assistant',
      content: text === '' && toolCalls.length > 0 ? null : text,
      refusal: null,
      ...(toolCalls.length > 0 && { tool_calls: toolCalls.map(chatToolCall) }),
    },
    logprobs: logprobs ? { content: chatLogprobs(logprobs), refusal: null } : null,
    finish_reason: finishReason,
  }),
  piece: ({ index, text, toolCall, finishReason, logprobs }) => {
    const call = toolCall && chatToolCallDelta(toolCall);
    if (toolCall && !call) return undefined;
    return {
      index,
      delta: call ? { tool_calls: [call] } : finishReason === null ? { content: text } : {},
      logprobs: logprobs ? { content: chatLogprobs(logprobs), refusal: null } : null,
      finish_reason: finishReason,
    };
  },
  opening: (index) => ({
    index,
    delta: { role: 'assistant', content: '' },
    logprobs: null,
    finish_reason: null,
  }),
};

export const completionFormat: WireFormat = {
  object: 'text_completion',
  chunkObject: 'text_completion',
  choice: ({ index, text, finishReason, logprobs }) => ({
    index,
    text,
    logprobs: logprobs ? completionLogprobs(logprobs) : null,
    finish_reason: finishReason,
  }),
  piece: ({ index, text, finishReason, logprobs }) => ({
    index,
    text,
    logprobs: logprobs ? completionLogprobs(logprobs) : null,
    finish_reason: finishReason,
  }),
  opening: () => undefined,
};
