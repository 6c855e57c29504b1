import type { FoundItems, ResponseNeeds } from './found-items.js';
import { type Item, toItem, withNewId } from './items.js';
import type { InputItem, ResponseBody } from './schemas.js';

interface ConversationItems {
  /** Of the body itself. */
  readonly input: readonly Item[];
  /** Of what came before it. */
  readonly before: readonly Item[];
  /** The same as the JSON text of an array. */
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
  const conversation = found?.conversation ?? '[]';
  const before = JSON.parse(conversation) as Item[];
  const ids = new Set(before.map(({ id }) => id));
  const input = given.map((item, index) => {
    const own =
      item.type === 'item_reference'
        ? (JSON.parse(found!.items[item.id]!) as Item)
        : toItem(item, `input.${index}`);
    const unique = ids.has(own.id) ? withNewId(own) : own;
    ids.add(unique.id);
    return unique;
  });
  return { input, before, conversation };
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
