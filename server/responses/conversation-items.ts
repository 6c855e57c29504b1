import type { FoundItems, ResponseNeeds } from './found-items.js';
import { type Item, toItem } from './items.js';
import type { InputItem, ResponseBody } from './schemas.js';

interface ConversationItems {
  /** Of the body itself. */
  readonly input: readonly Item[];
  /** Of what came before it, as the JSON text of an array. */
  readonly conversation: string;
}

/** The items of a body and of what it continues, or what must be found for that. Throws `ApiError`. */
export function conversationItems(
  body: Pick<ResponseBody, 'input' | 'previous_response_id'>,
  found: FoundItems | undefined,
): ConversationItems | { readonly needs: ResponseNeeds } {
  const given = givenItems(body.input);
  const needs = needsOf(body.previous_response_id ?? null, given);
  if (needs && !found) return { needs };
  const input = given.map((item, index) => {
    if (item.type !== 'item_reference') return toItem(item, `input.${index}`);
    return JSON.parse(found!.items[item.id]!) as Item;
  });
  return { input, conversation: found?.conversation ?? '[]' };
}

export function parsedItems(conversation: string): readonly Item[] {
  return JSON.parse(conversation) as Item[];
}

/** Where an item of a conversation stands in the body, behind so many that came before. */
export function paramsBehind(before: number): (index: number) => string {
  return (index) => (index < before ? 'previous_response_id' : `input.${index - before}`);
}

function givenItems(input: ResponseBody['input']): readonly InputItem[] {
  return typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : (input ?? []);
}

function needsOf(previousResponseId: string | null, given: readonly InputItem[]): ResponseNeeds | undefined {
  const itemIds = given.flatMap((item) => (item.type === 'item_reference' ? item.id : []));
  return previousResponseId === null && itemIds.length === 0 ? undefined : { previousResponseId, itemIds };
}
