import { elementsOf, JsonSpan, membersOf } from './json-span.js';

/** A call as the model wrote it; `arguments` is the JSON text of an object. */
export interface WrittenCall {
  readonly name: string;
  readonly arguments: string;
}

/** Calls, and how many characters they take; 'more' while it is open, 'no' where it is none. */
export type Outcome = { readonly calls: readonly WrittenCall[]; readonly length: number } | 'more' | 'no';

/** Reads one place that may hold calls, from the marker on, while the text grows. */
export interface Attempt {
  /** `final`: nothing more will come. */
  read(text: string, final: boolean): Outcome;
}

/** How models of one family write calls. */
export interface ToolCallFormat {
  /** Texts that begin a call. In some vocabularies they are special tokens, which are shown for it. */
  readonly markers: readonly string[];
  /** Further special tokens inside of a call. */
  readonly innerMarkers: readonly string[];
  /** A call may also begin by its JSON alone, where an answer begins or another call has ended. */
  readonly bare: boolean;
  readonly idLength: number;
  open(marker: string): Attempt;
}

export type ToolCallFormatName = 'hermes' | 'mistral' | 'llama';

/** Characters of a name without its arguments, beyond which it is no call. */
const longestName = 256;

/** Hermes, Qwen: `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`. */
const hermes: ToolCallFormat = {
  markers: ['<tool_call>'],
  innerMarkers: ['</tool_call>'],
  bare: false,
  idLength: 24,
  open: (marker) => new TaggedJson(marker, '</tool_call>'),
};

/** Llama 3: `{"name": …, "parameters": {…}}`, where several are parted by `;`; or the same behind `<|python_tag|>`. */
const llama: ToolCallFormat = {
  markers: ['<|python_tag|>'],
  innerMarkers: [],
  bare: true,
  idLength: 24,
  open: (marker) => new TaggedJson(marker, ''),
};

/** Mistral: `[TOOL_CALLS][{…}, …]`, later `[TOOL_CALLS]name[CALL_ID]…[ARGS]{…}`. Its ids have nine characters. */
const mistral: ToolCallFormat = {
  markers: ['[TOOL_CALLS]'],
  innerMarkers: ['[CALL_ID]', '[ARGS]'],
  bare: false,
  idLength: 9,
  open: (marker) => new MistralCalls(marker),
};

export const toolCallFormats: Readonly<Record<ToolCallFormatName, ToolCallFormat>> = {
  hermes,
  mistral,
  llama,
};

class TaggedJson implements Attempt {
  #span: JsonSpan | undefined;

  constructor(
    private readonly open: string,
    private readonly close: string,
  ) {}

  read(text: string, final: boolean): Outcome {
    const begin = afterSpace(text, this.open.length);
    if (begin === text.length) return 'more';
    if (text[begin] !== '{') return 'no';
    this.#span ??= new JsonSpan(begin);
    const end = this.#span.endIn(text);
    if (typeof end === 'string') return end;
    const call = callFrom(text.slice(begin, end));
    if (!call) return 'no';
    const rest = afterSpace(text, end);
    if (this.close === '') return { calls: [call], length: end };
    if (text.startsWith(this.close, rest)) return { calls: [call], length: rest + this.close.length };
    // A model may leave the closing tag out.
    if (!final && this.close.startsWith(text.slice(rest))) return 'more';
    return { calls: [call], length: end };
  }
}

class MistralCalls implements Attempt {
  #span: JsonSpan | undefined;

  constructor(private readonly marker: string) {}

  read(text: string, _final: boolean): Outcome {
    const begin = afterSpace(text, this.marker.length);
    if (begin === text.length) return 'more';
    return text[begin] === '[' ? this.#list(text, begin) : this.#named(text, begin);
  }

  #list(text: string, begin: number): Outcome {
    this.#span ??= new JsonSpan(begin);
    const end = this.#span.endIn(text);
    if (typeof end === 'string') return end;
    const list = text.slice(begin, end);
    if (!isJson(list)) return 'no';
    const calls = elementsOf(list).map(callFrom);
    return calls.length > 0 && calls.every((call) => call !== undefined) ? { calls, length: end } : 'no';
  }

  #named(text: string, begin: number): Outcome {
    const brace = text.indexOf('{', begin);
    if (brace < 0) return text.length - begin > longestName ? 'no' : 'more';
    const [, name] =
      /^([^\s[\]{}]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*$/.exec(text.slice(begin, brace)) ?? [];
    if (name === undefined) return 'no';
    this.#span ??= new JsonSpan(brace);
    const end = this.#span.endIn(text);
    if (typeof end === 'string') return end;
    const json = text.slice(brace, end);
    return isJson(json) ? { calls: [{ name, arguments: json }], length: end } : 'no';
  }
}

/** `{"name": …, "arguments" or "parameters": {…}}`; arguments may be left out, or be JSON in a string. */
function callFrom(json: string): WrittenCall | undefined {
  if (!json.startsWith('{') || !isJson(json)) return undefined;
  const members = membersOf(json);
  const name: unknown = JSON.parse(members.get('name') ?? 'null');
  if (typeof name !== 'string' || name === '') return undefined;
  const written = members.get('arguments') ?? members.get('parameters') ?? '{}';
  const text = written.startsWith('"') ? (JSON.parse(written) as string) : written;
  return text.startsWith('{') && isJson(text) ? { name, arguments: text } : undefined;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function afterSpace(text: string, begin: number): number {
  let at = begin;
  while (at < text.length && /\s/.test(text[at]!)) at++;
  return at;
}
