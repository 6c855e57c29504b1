import { escapeLiteral, translateRegex } from './regex-translation.js';
import { type Component, isRecord } from './tokenizer-files.js';

/** Cuts a text into words, none of which a merge may cross; every word goes to `emit`, in order. */
export type Splitter = (text: string, emit: (word: string) => void) => void;

export interface PreTokenizer {
  /** Words are encoded by their UTF-8 bytes; else by their characters. */
  readonly byteLevel: boolean;
  /** `first`: the piece begins the whole text (Metaspace marks it as a word's start). */
  split(piece: string, first: boolean, emit: (word: string) => void): void;
}

/** GPT-2's pattern, which `ByteLevel` applies with `use_regex`. */
const gpt2Pattern =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

const asciiPunctuation = '!-\\/:-@[-`{-~';

/** Undefined where the pre-tokenizer is of a kind that the general tokenizer must do. */
export function compilePreTokenizer(component: Component | null): PreTokenizer | undefined {
  const parts = flatten(component);
  if (!parts) return undefined;
  const splitters: Splitter[] = [];
  let byteLevel = false;
  let prepare = (piece: string, _first: boolean) => piece;
  for (const [index, part] of parts.entries()) {
    // After ByteLevel, text is in its byte alphabet; what would come then sees other characters.
    if (byteLevel) return undefined;
    switch (part.type) {
      case 'ByteLevel': {
        byteLevel = true;
        if (part.use_regex !== false) splitters.push(isolating(gpt2Pattern));
        if (part.add_prefix_space === true) {
          if (index > 0) return undefined;
          prepare = (piece) => (piece.startsWith(' ') ? piece : ` ${piece}`);
        }
        break;
      }
      case 'Metaspace': {
        const metaspace = index === 0 ? compileMetaspace(part) : undefined;
        if (!metaspace) return undefined;
        prepare = metaspace.prepare;
        splitters.push(...metaspace.splitters);
        break;
      }
      default: {
        const splitter = compileSplitter(part);
        if (!splitter) return undefined;
        splitters.push(splitter);
      }
    }
  }
  const splitter = chain(splitters);
  return { byteLevel, split: (piece, first, emit) => splitter(prepare(piece, first), emit) };
}

function flatten(component: Component | null): Component[] | undefined {
  if (component === null) return [];
  if (component.type !== 'Sequence') return [component];
  const { pretokenizers } = component;
  if (!Array.isArray(pretokenizers) || !pretokenizers.every(isRecord)) return undefined;
  const parts = (pretokenizers as Component[]).map(flatten);
  return parts.includes(undefined) ? undefined : (parts as Component[][]).flat();
}

function chain(splitters: readonly Splitter[]): Splitter {
  const [first, ...rest] = splitters;
  if (!first) return (text, emit) => emit(text);
  if (rest.length === 0) return first;
  const then = chain(rest);
  return (text, emit) => first(text, (word) => then(word, emit));
}

function compileSplitter(part: Component): Splitter | undefined {
  switch (part.type) {
    case 'Split': {
      const pattern = patternSource(part.pattern);
      return pattern === undefined ? undefined : splitBy(pattern, part.behavior, part.invert === true);
    }
    case 'Digits':
      return splitBy('\\p{N}', part.individual_digits === true ? 'Isolated' : 'Contiguous', false);
    case 'Punctuation':
      return splitBy(`[\\p{P}${asciiPunctuation}]`, part.behavior ?? 'Isolated', false);
    default:
      return undefined;
  }
}

function patternSource(pattern: unknown): string | undefined {
  if (!isRecord(pattern)) return undefined;
  if (typeof pattern.String === 'string' && pattern.String !== '') return escapeLiteral(pattern.String);
  return typeof pattern.Regex === 'string' ? translateRegex(pattern.Regex) : undefined;
}

function splitBy(pattern: string, behavior: unknown, invert: boolean): Splitter | undefined {
  switch (behavior) {
    case 'Isolated':
      return isolating(pattern);
    case 'Removed':
    case 'MergedWithPrevious':
    case 'MergedWithNext':
    case 'Contiguous':
      return delimiting(pattern, behavior, invert);
    default:
      return undefined;
  }
}

/** Matches and what lies between them are words. Usual patterns match everywhere, which a sticky test does fastest. */
function isolating(pattern: string): Splitter {
  const sticky = new RegExp(pattern, 'yu');
  const anywhere = new RegExp(pattern, 'gu');
  return (text, emit) => {
    let at = 0;
    while (at < text.length) {
      sticky.lastIndex = at;
      if (sticky.test(text) && sticky.lastIndex > at) {
        emit(text.slice(at, sticky.lastIndex));
        at = sticky.lastIndex;
        continue;
      }
      const begin = nextMatch(anywhere, text, at);
      emit(text.slice(at, begin));
      at = begin;
    }
  };
}

/** Start of the next match that is not empty, or the text's end. */
function nextMatch(pattern: RegExp, text: string, from: number): number {
  pattern.lastIndex = from;
  for (;;) {
    const match = pattern.exec(text);
    if (!match) return text.length;
    if (match[0] !== '') return match.index;
    const code = text.codePointAt(pattern.lastIndex) ?? 0;
    pattern.lastIndex += code > 0xffff ? 2 : 1;
  }
}

interface Segment {
  begin: number;
  end: number;
  delimiter: boolean;
}

/** The other behaviours of `Split`, where matches are delimiters, or with `invert` what lies between them is. */
function delimiting(
  pattern: string,
  behavior: 'Removed' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous',
  invert: boolean,
): Splitter {
  const regex = new RegExp(pattern, 'gu');
  return (text, emit) => {
    for (const segment of joined(segments(regex, text, invert), behavior)) {
      emit(text.slice(segment.begin, segment.end));
    }
  };
}

function segments(regex: RegExp, text: string, invert: boolean): Segment[] {
  const found: Segment[] = [];
  let at = 0;
  for (const match of text.matchAll(regex)) {
    if (match[0] === '') continue;
    if (match.index > at) found.push({ begin: at, end: match.index, delimiter: invert });
    at = match.index + match[0].length;
    found.push({ begin: match.index, end: at, delimiter: !invert });
  }
  if (at < text.length) found.push({ begin: at, end: text.length, delimiter: invert });
  return found;
}

function joined(found: readonly Segment[], behavior: string): Segment[] {
  if (behavior === 'Removed') return found.filter((segment) => !segment.delimiter);
  const out: Segment[] = [];
  let previous: Segment | undefined;
  for (const segment of found) {
    const last = out.at(-1);
    const joins =
      behavior === 'Contiguous'
        ? previous?.delimiter === segment.delimiter
        : behavior === 'MergedWithPrevious'
          ? segment.delimiter && previous !== undefined && !previous.delimiter
          : !segment.delimiter && previous?.delimiter === true;
    if (joins && last) last.end = segment.end;
    else out.push({ ...segment });
    previous = segment;
  }
  return out;
}

/** SentencePiece's word mark: spaces become U+2581, one is put before a text, and words start with it. */
function compileMetaspace(
  part: Component,
): { prepare: (piece: string, first: boolean) => string; splitters: Splitter[] } | undefined {
  const mark = part.replacement ?? '\u2581';
  const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? 'never' : 'always');
  if (typeof mark !== 'string' || mark === '' || !['always', 'first', 'never'].includes(scheme as string)) {
    return undefined;
  }
  const prepare = (piece: string, first: boolean) => {
    const marked = piece.replaceAll(' ', mark);
    const wanted = scheme === 'always' || (scheme === 'first' && first);
    return wanted && !marked.startsWith(mark) ? mark + marked : marked;
  };
  const splits = part.split !== false;
  return { prepare, splitters: splits ? [delimiting(escapeLiteral(mark), 'MergedWithNext', false)] : [] };
}
