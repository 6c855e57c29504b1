import {
  begins,
  type GrowingText,
  peek,
  type Reading,
  skipLiteral,
  skipSpace,
  type Waiting,
} from './growing-text.js';
import { unescaped, unfinishedLength } from './json-escapes.js';
import { isJson, JsonScan, readValue } from './json-scan.js';

/** What is found of a call: that it is one, its arguments in pieces, and its end, unless the answer ended first. */
export type CallPart =
  | { readonly type: 'call'; readonly name: string }
  | { readonly type: 'arguments'; readonly text: string }
  | { readonly type: 'end' };

/** False where no call comes, or no further one: what has not been taken is text. */
export type CallReading = Reading<CallPart, boolean>;

export interface CallOptions {
  /** Whether a tool has this name; a call of any other is none. */
  readonly isTool: (name: string) => boolean;
  /** What ends a call, if anything but its JSON does: it also ends arguments that lack a bracket. */
  readonly close: string;
}

/**
 * Reads `{"name": …, "arguments" or "parameters": {…}}`: members in any order, others passed over, arguments as an object,
 * as JSON in a string, or none. It is a call from where both its name and the beginning of its arguments are known; what has
 * been shown by then cannot be taken back, so its arguments are shown as they are written even if they turn out not to be
 * JSON. Before that all has to be valid.
 */
export function* readCall(input: GrowingText, { isTool, close }: CallOptions): CallReading {
  let name: string | undefined;
  /** Arguments that stand before the name. */
  let written: string | undefined;
  let isCall = false;
  input.at++;
  for (;;) {
    yield* skipSpace(input);
    if (yield* skipLiteral(input, '}')) break;
    const key = yield* readKey(input);
    if (key === undefined) return isCall;
    if (key === 'name' && name === undefined) {
      name = textOf(yield* readValue(input));
      if (name === undefined || !isTool(name)) return false;
      if (written !== undefined) yield* wholeCall(input, name, written);
      isCall = written !== undefined;
    } else if (/^(arguments|parameters)$/.test(key) && !isCall && written === undefined) {
      if (name === undefined) {
        written = argumentsIn(yield* readValue(input));
        if (written === undefined) return false;
      } else {
        const quoted = yield* skipLiteral(input, '"');
        if ((yield* peek(input)) !== '{') return false;
        isCall = true;
        yield { type: 'call', name };
        yield* readArguments(input, { quoted, close });
      }
    } else if ((yield* readValue(input)) === undefined) {
      return isCall;
    }
    yield* skipSpace(input);
    if (!(yield* skipLiteral(input, ',')) && (yield* peek(input)) !== '}') return isCall;
  }
  if (isCall) return true;
  if (name === undefined) return false;
  yield* wholeCall(input, name, '{}');
  return true;
}

/**
 * Reads an object in pieces exactly as they are written, or from a string that holds it; no piece ends within an escape.
 * It ends with its bracket or where `close` stands outside of its strings.
 */
export function* readArguments(
  input: GrowingText,
  { quoted, close }: { readonly quoted: boolean; readonly close: string },
): Reading<CallPart, void> {
  input.take(input.at);
  const scan = new JsonScan(quoted);
  for (;;) {
    let outcome = 'more';
    while (outcome !== 'end' && input.at < input.text.length) {
      const tag = scan.inString || close === '' ? 'no' : begins(input, close);
      if (tag === 'perhaps') break;
      outcome = tag === 'yes' ? 'end' : scan.read(input.text[input.at++]!);
    }
    const isAll = outcome === 'end' || input.ended;
    const quote = outcome === 'end' && quoted ? 1 : 0;
    const held = isAll ? quote : unfinishedLength(input.text.slice(0, input.at));
    const text = input.take(input.at - held);
    if (text !== '') yield { type: 'arguments', text: quoted ? unescaped(text) : text };
    if (outcome === 'end') {
      input.take(quote);
      yield { type: 'end' };
    }
    if (isAll) return;
    yield undefined;
  }
}

function* wholeCall(input: GrowingText, name: string, written: string): Reading<CallPart, void> {
  input.take(input.at);
  yield { type: 'call', name };
  yield { type: 'arguments', text: written };
  yield { type: 'end' };
}

/** The key of a member, and what parts it from its value. */
function* readKey(input: GrowingText): Waiting<string | undefined> {
  if ((yield* peek(input)) !== '"') return undefined;
  const key = textOf(yield* readValue(input));
  yield* skipSpace(input);
  if (!(yield* skipLiteral(input, ':'))) return undefined;
  yield* skipSpace(input);
  return key;
}

function textOf(json: string | undefined): string | undefined {
  return json?.startsWith('"') ? (JSON.parse(json) as string) : undefined;
}

function argumentsIn(json: string | undefined): string | undefined {
  const text = textOf(json) ?? json;
  return text?.startsWith('{') && isJson(text) ? text : undefined;
}
