import type { TokenLogprob } from '../../engine/index.js';
import type { ToolCall } from '../tools/tool-call-events.js';
import { chatLogprobs, completionLogprobs } from './logprobs.js';

/** A choice of a finished answer. */
export interface Answer {
  readonly index: number;
  readonly text: string;
  readonly toolCalls: readonly ToolCall[];
  readonly finishReason: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
}

/** A piece of a streamed choice: text, or a whole call; the last one has a reason and neither. */
export interface Piece {
  readonly index: number;
  readonly text: string;
  readonly finishReason: string | null;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  /** Where the piece begins in the choice's text. */
  readonly offset: number;
  readonly toolCall?: ToolCall;
}

/** How chat and text completions differ on the wire; everything else about answering them is one piece of code. */
export interface WireFormat {
  readonly object: string;
  readonly chunkObject: string;
  choice(answer: Answer): object;
  piece(piece: Piece): object;
  /** What a stream begins each choice with, if anything. */
  opening(index: number): object | undefined;
}

export function chatToolCall({ id, name, arguments: json }: ToolCall): object {
  return { id, type: 'function', function: { name, arguments: json } };
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
  piece: ({ index, text, toolCall, finishReason, logprobs }) => ({
    index,
    delta: toolCall
      ? { tool_calls: [{ index: toolCall.index, ...chatToolCall(toolCall) }] }
      : finishReason === null
        ? { content: text }
        : {},
    logprobs: logprobs ? { content: chatLogprobs(logprobs), refusal: null } : null,
    finish_reason: finishReason,
  }),
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
    logprobs: logprobs ? completionLogprobs(logprobs, 0) : null,
    finish_reason: finishReason,
  }),
  piece: ({ index, text, finishReason, logprobs, offset }) => ({
    index,
    text,
    logprobs: logprobs ? completionLogprobs(logprobs, offset) : null,
    finish_reason: finishReason,
  }),
  opening: () => undefined,
};
