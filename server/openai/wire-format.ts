import type { TokenLogprob } from '../../engine/index.js';
import { chatLogprobs, completionLogprobs } from './logprobs.js';

/** A choice of a finished answer. */
export interface Answer {
  readonly index: number;
  readonly text: string;
  readonly finishReason: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
}

/** A piece of a streamed choice; the last one has a reason and no text. */
export interface Piece {
  readonly index: number;
  readonly text: string;
  readonly finishReason: string | null;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  /** Where the piece begins in the choice's text. */
  readonly offset: number;
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

export const chatFormat: WireFormat = {
  object: 'chat.completion',
  chunkObject: 'chat.completion.chunk',
  choice: ({ index, text, finishReason, logprobs }) => ({
    index,
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: logprobs ? { content: chatLogprobs(logprobs), refusal: null } : null,
    finish_reason: finishReason,
  }),
  piece: ({ index, text, finishReason, logprobs }) => ({
    index,
    delta: finishReason === null ? { content: text } : {},
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
