import { type GrowingText, peek, skipLiteral, skipSpace } from './growing-text.js';
import { type CallReading, readArguments, readCall } from './read-call.js';

/** How models of one family write calls. */
export interface ToolCallFormat {
  /** Texts that begin a call. In some vocabularies they are special tokens, which are shown for it. */
  readonly markers: readonly string[];
  /** Further special tokens inside of a call. */
  readonly innerMarkers: readonly string[];
  /** A call may also begin by its JSON alone, where an answer begins or another call has ended. */
  readonly bare: boolean;
  readonly idLength: number;
  /** Reads the calls behind a marker; what is no call of a tool is none. */
  read(input: GrowingText, isTool: (name: string) => boolean): CallReading;
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
  *read(input, isTool) {
    const close = '</tool_call>';
    yield* skipSpace(input);
    if ((yield* peek(input)) !== '{' || !(yield* readCall(input, { isTool, close }))) return false;
    const end = input.at;
    yield* skipSpace(input);
    // A model may leave the closing tag out.
    if (!(yield* skipLiteral(input, close))) input.at = end;
    return true;
  },
};

/** Llama 3: `{"name": …, "parameters": {…}}`, where several are parted by `;`; or the same behind `<|python_tag|>`. */
const llama: ToolCallFormat = {
  markers: ['<|python_tag|>'],
  innerMarkers: [],
  bare: true,
  idLength: 24,
  *read(input, isTool) {
    yield* skipSpace(input);
    return (yield* peek(input)) === '{' && (yield* readCall(input, { isTool, close: '' }));
  },
};

/** Mistral: `[TOOL_CALLS][{…}, …]`, later `[TOOL_CALLS]name[CALL_ID]…[ARGS]{…}`. Its ids have nine characters. */
const mistral: ToolCallFormat = {
  markers: ['[TOOL_CALLS]'],
  innerMarkers: ['[CALL_ID]', '[ARGS]'],
  bare: false,
  idLength: 9,
  *read(input, isTool) {
    yield* skipSpace(input);
    return (yield* skipLiteral(input, '['))
      ? yield* callList(input, isTool)
      : yield* namedCall(input, isTool);
  },
};

export const toolCallFormats: Readonly<Record<ToolCallFormatName, ToolCallFormat>> = {
  hermes,
  mistral,
  llama,
};

function* callList(input: GrowingText, isTool: (name: string) => boolean): CallReading {
  for (;;) {
    yield* skipSpace(input);
    if ((yield* peek(input)) !== '{' || !(yield* readCall(input, { isTool, close: '' }))) return false;
    yield* skipSpace(input);
    if (!(yield* skipLiteral(input, ','))) break;
    // Should the next one be none, it is text, and this one is not.
    input.take(input.at);
  }
  yield* skipLiteral(input, ']');
  return true;
}

function* namedCall(input: GrowingText, isTool: (name: string) => boolean): CallReading {
  const begin = input.at;
  for (let next = yield* peek(input); next !== '{'; next = yield* peek(input)) {
    if (next === '' || input.at - begin > longestName) return false;
    input.at++;
  }
  const head = input.text.slice(begin, input.at);
  const [, name] = /^([^\s[\]{}]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*$/.exec(head) ?? [];
  if (name === undefined || !isTool(name)) return false;
  yield { type: 'call', name };
  yield* readArguments(input, { quoted: false, close: '' });
  return true;
}
