import type { ChatMessage } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import { newId } from '../openai/ids.js';

/** Stands for a conversation up to it. */
export interface CompactionItem {
  readonly type: 'compaction';
  readonly id: string;
  /** The summary in a form that only this server reads. */
  readonly encrypted_content: string;
}

/** What is asked of the model behind the conversation. */
export const summaryRequest: ChatMessage = {
  role: 'user',
  content:
    'Summarize this conversation so that it can go on from the summary alone: who takes part and what they want, names, facts, ' +
    'numbers, decisions, results of tools, and what is still open. Write nothing but the summary.',
};

/** Of a summary, at most. */
export const summaryTokens = 512;

const form = 'summary.v1.';

/** Who gets it has sent the conversation, so there is nothing to hide: it is only kept from being taken for text. */
export function compactionOf(summary: string): CompactionItem {
  const content = Buffer.from(summary).toString('base64url');
  return { type: 'compaction', id: newId('cmp_'), encrypted_content: form + content };
}

/** The summary of a compaction. Throws `ApiError` if it is of another server; `param` says where it stood. */
export function checkedCompaction(
  id: string | null | undefined,
  content: string,
  param: string,
): CompactionItem {
  const summary = content.startsWith(form) ? content.slice(form.length) : undefined;
  if (summary === undefined || Buffer.from(summary, 'base64url').toString('base64url') !== summary) {
    throw invalidRequest(
      "This is no 'encrypted_content' of this server's POST /v1/responses/compact: compact the conversation here.",
      `${param}.encrypted_content`,
    );
  }
  return { type: 'compaction', id: id ?? newId('cmp_'), encrypted_content: content };
}

/** As the model reads it. */
export function summaryOf({ encrypted_content: content }: CompactionItem): string {
  const summary = Buffer.from(content.slice(form.length), 'base64url').toString('utf8');
  return `Summary of the conversation so far:\n\n${summary}`;
}
