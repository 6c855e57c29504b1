import { type GrowingText, peek, type Waiting } from './growing-text.js';

/** What may stand in JSON outside of its strings. */
const outside = /[\s{}[\],:"\w+\-.]/;

/** Finds where a JSON object, array or string ends, whose characters come one by one. */
export class JsonScan {
  #depth = 0;
  #escaped = false;

  /** `inString`: its first quote has been read. */
  constructor(public inString = false) {}

  /** 'end' where it ends with this character; 'fault' where that makes it no JSON, which may still be read on. */
  read(character: string): 'more' | 'end' | 'fault' {
    if (this.inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.inString = false;
      return this.inString || this.#depth > 0 ? 'more' : 'end';
    }
    if (character === '"') this.inString = true;
    else if (character === '{' || character === '[') this.#depth++;
    else if (character === '}' || character === ']') this.#depth--;
    else if (!outside.test(character)) return 'fault';
    return this.inString || this.#depth > 0 ? 'more' : 'end';
  }
}

/** A JSON value as it is written, so that no large number loses its digits; undefined where none comes next. */
export function* readValue(input: GrowingText): Waiting<string | undefined> {
  const begin = input.at;
  if (/["{[]/.test(yield* peek(input))) {
    const scan = new JsonScan();
    for (let outcome = 'more'; outcome === 'more'; input.at++) {
      const character = yield* peek(input);
      outcome = character === '' ? 'fault' : scan.read(character);
      if (outcome === 'fault') return undefined;
    }
  } else {
    while (/[^\s,\]}]/.test(yield* peek(input))) input.at++;
  }
  const written = input.text.slice(begin, input.at);
  return isJson(written) ? written : undefined;
}

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
