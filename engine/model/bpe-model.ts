import { PairMerger } from './bpe.js';
import { charOfByte } from './byte-level.js';
import type { IdSink } from './id-sink.js';
import { MergeTable } from './merge-table.js';
import type { Merges } from './merges.js';
import type { PieceIndex } from './piece-index.js';
import type { TokenizerFiles } from './tokenizer-files.js';
import type { Vocabulary } from './vocabulary.js';
import { WordCache } from './word-cache.js';

/** About 10 MB of words at most. */
const cachedWords = 32_768;
/** Longer words hardly come twice. */
const cachedWordLength = 64;

/** Turns a word into the ids that merging starts from; returns how many. Grows `symbols` as needed. */
interface Alphabet {
  symbolsOf(word: string): { symbols: Int32Array; count: number };
}

/** The model part of `tokenizer.json` for `"type": "BPE"`: words to ids. */
export class BpeModel {
  readonly #cache = new WordCache(cachedWords);

  private constructor(
    private readonly merger: PairMerger,
    private readonly alphabet: Alphabet,
    private readonly wholeWord: ((word: string) => number | undefined) | undefined,
    /** The most symbols that a token is made of. */
    private readonly longest: number,
  ) {}

  /** Undefined where the model has a feature that the general tokenizer must do (suffixes of words, dropout). */
  static open(
    files: TokenizerFiles,
    vocabulary: Vocabulary,
    merges: Merges,
    byteLevel: boolean,
  ): BpeModel | undefined {
    const { model } = files;
    if (model.dropout || model.continuing_subword_prefix || model.end_of_word_suffix) return undefined;
    const { index } = vocabulary;
    const unknown = typeof model.unk_token === 'string' ? index.get(model.unk_token) : undefined;
    const options = {
      unknown,
      fuseUnknown: model.fuse_unk === true,
      byteFallback: model.byte_fallback === true,
    };
    const table = new MergeTable(merges.count);
    for (let rank = 0; rank < merges.count; rank++) {
      table.add(merges.left[rank]!, merges.right[rank]!, rank, merges.merged[rank]!);
    }
    const merger = new PairMerger(table);
    const alphabet = byteLevel
      ? new ByteAlphabet(index, options)
      : new CharacterAlphabet(vocabulary, options);
    const longest = vocabulary.pieces.reduce((most, piece) => Math.max(most, piece?.length ?? 0), 1);
    if (model.ignore_merges !== true) return new BpeModel(merger, alphabet, undefined, longest);
    // A special token's text must stay text even if the vocabulary lists it.
    const special = new Set(files.addedTokens.filter((token) => token.special).map((token) => token.content));
    const wholeWord = (word: string) => {
      const piece = byteLevel ? byteLevelText(word) : word;
      return special.has(piece) ? undefined : index.get(piece);
    };
    return new BpeModel(merger, alphabet, wholeWord, longest);
  }

  encode(word: string, out: IdSink): void {
    const cached = this.#cache.get(word);
    if (cached === undefined) this.#encodeNew(word, out);
    else if (typeof cached === 'number') out.push(cached);
    else out.pushAll(cached);
  }

  #encodeNew(word: string, out: IdSink): void {
    const whole = this.wholeWord?.(word);
    if (whole !== undefined) {
      if (word.length <= cachedWordLength) this.#cache.set(word, whole);
      out.push(whole);
      return;
    }
    const { symbols, count } = this.alphabet.symbolsOf(word);
    out.expect(count / this.longest);
    const merged = this.merger.merge(symbols, count);
    out.pushAll(symbols.subarray(0, merged));
    if (word.length > cachedWordLength) return;
    this.#cache.set(word, merged === 1 ? symbols[0]! : symbols.slice(0, merged));
  }
}

interface UnknownRules {
  readonly unknown: number | undefined;
  /** Neighbouring unknowns become one. */
  readonly fuseUnknown: boolean;
  /** Characters outside the vocabulary become their bytes' tokens, <0x00> to <0xFF>. */
  readonly byteFallback: boolean;
}

const utf8 = new TextEncoder();

function byteLevelText(word: string): string {
  let text = '';
  for (const byte of utf8.encode(word)) text += charOfByte[byte];
  return text;
}

class ByteAlphabet implements Alphabet {
  /** Id of each byte, -1 where the vocabulary has none. */
  readonly #ids: Int32Array;
  #bytes = new Uint8Array(256);
  #symbols = new Int32Array(256);

  constructor(
    index: PieceIndex,
    private readonly rules: UnknownRules,
  ) {
    this.#ids = Int32Array.from(charOfByte, (char) => index.get(char) ?? -1);
  }

  symbolsOf(word: string) {
    if (this.#bytes.length < 3 * word.length) {
      this.#bytes = new Uint8Array(4 * word.length);
      this.#symbols = new Int32Array(4 * word.length);
    }
    const { written } = utf8.encodeInto(word, this.#bytes);
    const symbols = this.#symbols;
    const { unknown, fuseUnknown } = this.rules;
    let count = 0;
    for (let i = 0; i < written; i++) {
      const id = this.#ids[this.#bytes[i]!]!;
      if (id >= 0) symbols[count++] = id;
      else if (unknown !== undefined && !(fuseUnknown && symbols[count - 1] === unknown && count > 0)) {
        symbols[count++] = unknown;
      }
    }
    return { symbols, count };
  }
}

class CharacterAlphabet implements Alphabet {
  /** Id of each code point of the basic plane, -1 where the vocabulary has none; the others are in the map. */
  readonly #basic = new Int32Array(0x10000).fill(-1);
  readonly #others = new Map<number, number>();
  /** Id of each byte's token, or undefined if not all are there. */
  readonly #byteIds: Int32Array | undefined;
  #symbols = new Int32Array(256);

  constructor(
    { pieces, index }: Vocabulary,
    private readonly rules: UnknownRules,
  ) {
    for (const [id, piece] of pieces.entries()) {
      if (piece === undefined || index.get(piece) !== id) continue;
      const code = piece.length <= 2 ? (piece.codePointAt(0) ?? -1) : -1;
      if (code < 0 || String.fromCodePoint(code).length !== piece.length) continue;
      if (code < 0x10000) this.#basic[code] = id;
      else this.#others.set(code, id);
    }
    const byteIds = Int32Array.from({ length: 256 }, (_, byte) => index.get(byteToken(byte)) ?? -1);
    this.#byteIds = rules.byteFallback && !byteIds.includes(-1) ? byteIds : undefined;
  }

  symbolsOf(word: string) {
    if (this.#symbols.length < 4 * word.length) this.#symbols = new Int32Array(8 * word.length);
    const symbols = this.#symbols;
    const { unknown, fuseUnknown } = this.rules;
    let count = 0;
    for (let i = 0; i < word.length; i++) {
      const code = word.codePointAt(i)!;
      if (code > 0xffff) i++;
      const id = code > 0xffff ? (this.#others.get(code) ?? -1) : this.#basic[code]!;
      if (id >= 0) symbols[count++] = id;
      else if (this.#byteIds) {
        for (const byte of utf8.encode(String.fromCodePoint(code))) symbols[count++] = this.#byteIds[byte]!;
      } else if (unknown !== undefined && !(fuseUnknown && count > 0 && symbols[count - 1] === unknown)) {
        symbols[count++] = unknown;
      }
    }
    return { symbols, count };
  }
}

export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}
