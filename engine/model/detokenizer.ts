import { bytesOfPiece } from './byte-level.js';
import { invalidModel, quoted } from './model-files.js';
import type { TokenStream } from './text.js';
import { type Component, isRecord, type TokenizerFiles } from './tokenizer-files.js';
import type { Vocabulary } from './vocabulary.js';

/**
 * Turns ids into text by a table of bytes, made once. Bytes that are not UTF-8 show as U+FFFD, one for each longest
 * part that could have begun a code point (the WHATWG rule), so that a stream and the whole give the same.
 */
export class Detokenizer {
  readonly #bytes: Uint8Array;
  /** [vocabSize + 1]: where each id's bytes begin. */
  readonly #begin: Uint32Array;
  /** Per id: 1 if special. */
  readonly #special: Uint8Array;
  /** Text of each token where nothing is held before it, made when first seen; null if it ends unfinished. */
  readonly #texts: (string | null | undefined)[];
  /** Spaces taken off the beginning of a text: the one that the tokenizer put there. */
  readonly #leadingSpaces: number;

  constructor(files: TokenizerFiles, vocabulary: Vocabulary) {
    const { pieces } = vocabulary;
    const rules = decodingRules(files);
    this.#leadingSpaces = rules.leadingSpaces;
    this.#special = new Uint8Array(pieces.length);
    this.#texts = new Array(pieces.length);
    const added = new Map(files.addedTokens.map((token) => [token.id, token]));
    for (const token of files.addedTokens) if (token.special) this.#special[token.id] = 1;
    this.#begin = new Uint32Array(pieces.length + 1);
    let table = Buffer.alloc(16 * pieces.length);
    let end = 0;
    for (let id = 0; id < pieces.length; id++) {
      const piece = pieces[id];
      this.#begin[id] = end;
      if (piece === undefined) continue;
      const bytes = added.has(id) ? Buffer.from(piece) : rules.bytesOf(piece);
      if (end + bytes.length > table.length) table = Buffer.concat([table], 2 * (end + bytes.length));
      table.set(bytes, end);
      end += bytes.length;
    }
    this.#begin[pieces.length] = end;
    this.#bytes = Uint8Array.from(table.subarray(0, end));
  }

  get vocabSize(): number {
    return this.#special.length;
  }

  isSpecial(id: number): boolean {
    return this.#special[id] === 1;
  }

  tokenBytes(id: number): Uint8Array {
    return this.#known(id) ? this.#bytes.slice(this.#begin[id], this.#begin[id + 1]) : new Uint8Array(0);
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const shown = Array.from(ids).filter((id) => this.#known(id) && !(skipSpecial && this.isSpecial(id)));
    const length = shown.reduce((sum, id) => sum + this.#begin[id + 1]! - this.#begin[id]!, 0);
    const bytes = Buffer.alloc(length);
    let at = 0;
    for (const id of shown) {
      for (let from = this.#begin[id]!; from < this.#begin[id + 1]!; from++) bytes[at++] = this.#bytes[from]!;
    }
    return bytes.toString('utf8', leadingSpacesOf(bytes, this.#leadingSpaces));
  }

  stream(
    shownSpecials: ReadonlySet<number> | 'all' = new Set(),
    behind: Iterable<number> | 'text' = [],
  ): TokenStream {
    let held = new Uint8Array(0);
    let spacesToDrop = behind === 'text' ? 0 : this.#leadingSpaces;
    const shown = (text: string) => {
      if (spacesToDrop === 0 || text === '') return text;
      let spaces = 0;
      while (spaces < spacesToDrop && text[spaces] === ' ') spaces++;
      // Only an unbroken run at the very beginning is dropped.
      spacesToDrop = spaces === text.length ? spacesToDrop - spaces : 0;
      return text.slice(spaces);
    };
    const isShown = (id: number) =>
      this.#known(id) && (this.#special[id] !== 1 || shownSpecials === 'all' || shownSpecials.has(id));
    const stream: TokenStream = {
      push: (id) => {
        if (!isShown(id)) return '';
        if (held.length === 0) {
          const seen = this.#texts[id];
          const text = seen === undefined ? this.#wholeText(id) : seen;
          if (text !== null) return shown(text);
        }
        const bytes = Buffer.concat([held, this.#bytes.subarray(this.#begin[id], this.#begin[id + 1])]);
        const certain = bytes.length - unfinishedLength(bytes);
        held = Uint8Array.from(bytes.subarray(certain));
        return shown(bytes.toString('utf8', 0, certain));
      },
      end: () => {
        const text = Buffer.from(held).toString('utf8');
        held = new Uint8Array(0);
        return shown(text);
      },
    };
    // Only at the beginning of it all are there spaces to drop, so the first few ids tell.
    for (const id of behind === 'text' ? [] : behind) {
      if (spacesToDrop === 0) break;
      stream.push(id);
      stream.end();
    }
    return stream;
  }

  #known(id: number): boolean {
    return id >= 0 && id < this.#special.length;
  }

  #wholeText(id: number): string | null {
    const bytes = Buffer.from(this.tokenBytes(id));
    const text = unfinishedLength(bytes) === 0 ? bytes.toString('utf8') : null;
    this.#texts[id] = text;
    return text;
  }
}

function leadingSpacesOf(bytes: Uint8Array, most: number): number {
  let spaces = 0;
  while (spaces < most && bytes[spaces] === 0x20) spaces++;
  return spaces;
}

/** How many bytes at the end begin a code point that further bytes could finish. */
export function unfinishedLength(bytes: Uint8Array): number {
  const end = bytes.length;
  for (let length = 1; length <= 3 && length <= end; length++) {
    const lead = bytes[end - length]!;
    if (lead < 0x80) return 0;
    if (lead < 0xc0) continue;
    const needed = lead < 0xc2 || lead > 0xf4 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length >= needed) return 0;
    return length === 1 || mayFollow(lead, bytes[end - length + 1]!) ? length : 0;
  }
  return 0;
}

/** Overlong forms, surrogates and what is above U+10FFFF are ruled out by the second byte (Unicode, table 3-7). */
function mayFollow(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second <= 0x8f;
  return true;
}

interface DecodingRules {
  bytesOf(piece: string): Uint8Array;
  readonly leadingSpaces: number;
}

function decodingRules(files: TokenizerFiles): DecodingRules {
  const steps = flatten(files.decoder);
  if (steps.length === 0) {
    // Without a decoder pieces are joined by spaces.
    return { bytesOf: (piece) => Buffer.from(` ${piece}`), leadingSpaces: 1 };
  }
  if (steps.some((step) => step.type === 'ByteLevel')) {
    return { bytesOf: (piece) => bytesOfPiece(piece) ?? Buffer.from(piece), leadingSpaces: 0 };
  }
  let leadingSpaces = 0;
  let byteFallback = false;
  const edits: ((piece: string) => string)[] = [];
  for (const step of steps) {
    switch (step.type) {
      case 'Fuse':
        break;
      case 'ByteFallback':
        byteFallback = true;
        break;
      case 'Strip':
        if (step.content !== ' ' || step.stop !== 0 || !Number.isInteger(step.start))
          throw unsupported(files, step);
        leadingSpaces = step.start as number;
        break;
      case 'Metaspace': {
        const mark = typeof step.replacement === 'string' ? step.replacement : '\u2581';
        edits.push((piece) => piece.replaceAll(mark, ' '));
        if (step.prepend_scheme !== 'never' && step.add_prefix_space !== false) leadingSpaces = 1;
        break;
      }
      case 'Replace': {
        const from = isRecord(step.pattern) ? step.pattern.String : undefined;
        const { content } = step;
        if (typeof from !== 'string' || from === '' || typeof content !== 'string')
          throw unsupported(files, step);
        edits.push((piece) => piece.replaceAll(from, () => content));
        break;
      }
      case 'WordPiece': {
        const prefix = typeof step.prefix === 'string' ? step.prefix : '##';
        edits.push((piece) => (piece.startsWith(prefix) ? piece.slice(prefix.length) : ` ${piece}`));
        leadingSpaces = 1;
        break;
      }
      default:
        throw unsupported(files, step);
    }
  }
  return {
    leadingSpaces,
    bytesOf(piece) {
      const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(piece) : null;
      if (byte) return Uint8Array.of(Number.parseInt(byte[1]!, 16));
      return Buffer.from(edits.reduce((text, edit) => edit(text), piece));
    },
  };
}

function flatten(component: Component | null): Component[] {
  if (component === null) return [];
  if (component.type !== 'Sequence') return [component];
  return Array.isArray(component.decoders) ? (component.decoders as Component[]).flatMap(flatten) : [];
}

function unsupported(files: TokenizerFiles, step: Component): Error {
  return invalidModel(files.file, `decoder: ${quoted(step)} is not supported`);
}
