/** What a response refers to by id. */
export interface ResponseNeeds {
  readonly previousResponseId: string | null;
  /** Ids of items. */
  readonly itemIds: readonly string[];
}

/** What was found of it, as JSON texts: they are parsed where the prompt is made. */
export interface FoundItems {
  /** The items of the conversation before, oldest first: an array. */
  readonly conversation: string;
  /** By id. */
  readonly items: Readonly<Record<string, string>>;
  readonly bytes: number;
}

/** One JSON array of the items of many. */
export function joinItems(arrays: readonly string[]): string {
  const inner = arrays.map((array) => array.slice(1, -1));
  return `[${inner.filter((items) => items !== '').join(',')}]`;
}
