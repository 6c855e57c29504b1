/** What may stand in JSON outside of its strings; anything else ends the hope that it is JSON. */
const outside = /[\s{}[\],:"\w+\-.]/;

/** Finds where a JSON object or array ends in a text that still grows; each character is looked at once. */
export class JsonSpan {
  #at: number;
  #depth = 0;
  #inString = false;
  #escaped = false;
  #end: number | undefined;

  /** `begin` is where its first bracket stands. */
  constructor(begin: number) {
    this.#at = begin;
  }

  /** The index behind its last bracket; 'more' while that is not there, 'no' where it cannot be JSON. */
  endIn(text: string): number | 'more' | 'no' {
    for (; this.#end === undefined && this.#at < text.length; this.#at++) {
      const character = text[this.#at]!;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (character === '\\') this.#escaped = true;
        else if (character === '"') this.#inString = false;
      } else if (character === '"') {
        this.#inString = true;
      } else if (character === '{' || character === '[') {
        this.#depth++;
      } else if (character === '}' || character === ']') {
        this.#depth--;
        if (this.#depth === 0) this.#end = this.#at + 1;
      } else if (!outside.test(character)) {
        return 'no';
      }
    }
    return this.#end ?? 'more';
  }
}

/** The elements of a JSON array, or the members of an object, as they are written; it must be valid. */
export function elementsOf(json: string): string[] {
  const elements: string[] = [];
  const inner = json.trim().slice(1, -1);
  let begin = 0;
  let depth = 0;
  for (let at = 0; at < inner.length; at++) {
    const character = inner[at]!;
    if (character === '"') at = endOfString(inner, at);
    else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    else if (character === ',' && depth === 0) {
      elements.push(inner.slice(begin, at).trim());
      begin = at + 1;
    }
  }
  const last = inner.slice(begin).trim();
  return last === '' ? elements : [...elements, last];
}

/** The values of a JSON object as they are written, so that no large number loses its digits; it must be valid. */
export function membersOf(json: string): Map<string, string> {
  return new Map(
    elementsOf(json).map((member) => {
      const end = endOfString(member, 0) + 1;
      return [JSON.parse(member.slice(0, end)) as string, member.slice(member.indexOf(':', end) + 1).trim()];
    }),
  );
}

/** The index of the quote that ends the string which begins at `begin`. */
function endOfString(text: string, begin: number): number {
  let at = begin + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}
