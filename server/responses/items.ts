import type { ChatMessage } from '../../engine/index.js';
import type { ImageDetail } from '../images/image-source.js';
import { invalidRequest } from '../openai/errors.js';
import { newId } from '../openai/ids.js';
import { imagePart, joinedTexts, type TemplatePart, unsupportedPart } from '../prepare/content-parts.js';
import { parsedArguments } from '../prepare/messages.js';
import { type CompactionItem, checkedCompaction, summaryOf } from './compaction.js';
import type { InputItem } from './schemas.js';

export type ContentPart =
  | { readonly type: 'input_text'; readonly text: string }
  | { readonly type: 'input_image'; readonly image_url: string; readonly detail: ImageDetail }
  | {
      readonly type: 'output_text';
      readonly text: string;
      readonly annotations: readonly unknown[];
      readonly logprobs: readonly object[];
    }
  | { readonly type: 'refusal'; readonly refusal: string };

type Status = 'in_progress' | 'completed' | 'incomplete';

export interface MessageItem {
  readonly type: 'message';
  readonly id: string;
  readonly status: Status;
  readonly role: 'user' | 'assistant' | 'system' | 'developer';
  readonly content: readonly ContentPart[];
  readonly phase?: string;
}

export interface FunctionCallItem {
  readonly type: 'function_call';
  readonly id: string;
  readonly status: Status;
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
}

export interface FunctionCallOutputItem {
  readonly type: 'function_call_output';
  readonly id: string;
  readonly status: Status;
  readonly call_id: string;
  readonly output: string | readonly ContentPart[];
}

/** An item as it is kept and shown: with its id, and with parts where the client may have sent a text. */
export type Item = MessageItem | FunctionCallItem | FunctionCallOutputItem | CompactionItem;

/** What an item is called that has no id of its own begins with this. */
const idPrefixes = {
  message: 'msg_',
  function_call: 'fc_',
  function_call_output: 'fco_',
  compaction: 'cmp_',
};

type GivenItem = Exclude<InputItem, { type: 'item_reference' }>;
type GivenParts = Exclude<Extract<GivenItem, { type: 'message' }>['content'], string>;

/** `param` is where the item stands in the body, for errors. */
export function toItem(given: GivenItem, param: string): Item {
  if (given.type === 'compaction') return checkedCompaction(given.id, given.encrypted_content, param);
  const status = given.status ?? 'completed';
  switch (given.type) {
    case 'message': {
      const content = toParts(given.role, given.content, `${param}.content`);
      const phase = given.phase != null && { phase: given.phase };
      return {
        type: 'message',
        id: given.id ?? newId(idPrefixes.message),
        status,
        role: given.role,
        content,
        ...phase,
      };
    }
    case 'function_call': {
      const { call_id, name } = given;
      const id = given.id ?? newId(idPrefixes.function_call);
      return { type: 'function_call', id, status, call_id, name, arguments: given.arguments };
    }
    case 'function_call_output': {
      const { call_id } = given;
      const output =
        typeof given.output === 'string' ? given.output : toParts('tool', given.output, `${param}.output`);
      return {
        type: 'function_call_output',
        id: given.id ?? newId(idPrefixes.function_call_output),
        status,
        call_id,
        output,
      };
    }
  }
}

/** An item that stands in its conversation already: lists go on behind the one that an id names. */
export function withNewId(item: Item): Item {
  return { ...item, id: newId(idPrefixes[item.type]) };
}

function toParts(
  role: MessageItem['role'] | 'tool',
  content: string | GivenParts,
  param: string,
): ContentPart[] {
  const given = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  return given.map((part, index): ContentPart => {
    const { type, text, refusal, image_url, file_id, detail } = part;
    if (type === 'refusal' && refusal !== undefined) return { type, refusal };
    if (['input_text', 'output_text', 'text'].includes(type) && text !== undefined) {
      return role === 'assistant' ? outputText(text) : { type: 'input_text', text };
    }
    const at = `${param}.${index}`;
    if (type === 'input_image' && image_url != null && role === 'user') {
      return { type, image_url, detail: detail ?? 'auto' };
    }
    if (type === 'input_image' && file_id != null) {
      throw invalidRequest(
        "There are no files: send the image itself as 'image_url', a data: URL.",
        at,
        'unsupported_content',
      );
    }
    throw unsupportedPart(type, at);
  });
}

export function outputText(text: string, logprobs: readonly object[] = []): ContentPart {
  return { type: 'output_text', text, annotations: [], logprobs };
}

/**
 * The conversation as a chat template reads it. Instructions and the system messages after them are one message, since
 * many templates take no second one; a text and the calls that follow it are one turn of the assistant. `paramOf` says where
 * an item stands in the body, for errors.
 */
export function toMessages(
  instructions: string | null,
  items: readonly Item[],
  paramOf: (index: number) => string,
): ChatMessage[] {
  const messages: ChatMessage[] = [];
  if (instructions !== null) messages.push({ role: 'system', content: instructions });
  for (const [index, item] of items.entries()) {
    const last = messages.at(-1);
    if (item.type === 'message' || item.type === 'compaction') {
      const content = item.type === 'message' ? contentOf(item, paramOf(index)) : summaryOf(item);
      const role = item.type === 'compaction' || item.role === 'developer' ? 'system' : item.role;
      if (role === 'system' && last?.role === 'system' && messages.length === 1) {
        messages[0] = { role, content: `${String(last.content)}\n\n${content}` };
      } else {
        messages.push({ role, content });
      }
    } else if (item.type === 'function_call') {
      const call = {
        id: item.call_id,
        type: 'function',
        function: { name: item.name, arguments: parsedArguments(item.arguments) },
      };
      const earlier = last?.tool_calls as unknown[] | undefined;
      if (last?.role === 'assistant')
        messages.splice(-1, 1, { ...last, tool_calls: [...(earlier ?? []), call] });
      else messages.push({ role: 'assistant', content: '', tool_calls: [call] });
    } else {
      const content = typeof item.output === 'string' ? item.output : textOf(item.output);
      messages.push({ role: 'tool', tool_call_id: item.call_id, content });
    }
  }
  return messages;
}

function contentOf({ role, content }: MessageItem, param: string): string | readonly TemplatePart[] {
  return joinedTexts(
    content.map((part, index): TemplatePart => {
      if (part.type !== 'input_image') return { type: 'text', text: textOf([part]) };
      return imagePart(part.image_url, part.detail, role, `${param}.content.${index}`);
    }),
  );
}

function textOf(parts: readonly ContentPart[]): string {
  const texts = parts.map((part) =>
    part.type === 'refusal' ? part.refusal : 'text' in part ? part.text : '',
  );
  return texts.join('');
}
