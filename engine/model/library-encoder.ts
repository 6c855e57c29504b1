import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import type { IdSink } from './id-sink.js';
import { invalidModel, quoted } from './model-files.js';
import type { PlainEncoder } from './text-encoder.js';
import type { TokenizerFiles } from './tokenizer-files.js';

const kinds: readonly string[] = ['BPE', 'Unigram', 'WordPiece'];

/** Every other kind of tokenizer, by @huggingface/tokenizers: slower, and of no known bound on hostile text. */
export class LibraryEncoder implements PlainEncoder {
  readonly #withSpecial: LibraryTokenizer;
  readonly #plain: LibraryTokenizer;

  readonly #file: string;

  constructor(files: TokenizerFiles) {
    this.#file = files.file;
    // The library takes a kind that it does not know for BPE.
    if (!kinds.includes(files.model.type)) {
      throw invalidModel(
        files.file,
        `model.type ${quoted(files.model.type)} is not supported; supported are ${kinds.join(', ')}`,
      );
    }
    const json: Record<string, unknown> = {
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      ...files.json,
    };
    const listed = (tokens: TokenizerFiles['addedTokens']) =>
      tokens.map(({ singleWord, ...token }) => ({ ...token, single_word: singleWord }));
    const open = (tokens: TokenizerFiles['addedTokens']) =>
      new LibraryTokenizer({ ...json, added_tokens: listed(tokens) }, { ...files.config });
    try {
      this.#withSpecial = open(files.addedTokens);
      this.#plain = open(files.addedTokens.filter((token) => !token.special));
    } catch (error) {
      throw invalidModel(files.file, `this kind of tokenizer is not supported (${(error as Error).message})`);
    }
  }

  encode(text: string, special: boolean, out: IdSink): void {
    if (text === '') return;
    const tokenizer = special ? this.#withSpecial : this.#plain;
    // A piece that is unknown where there is no unknown token has no id; the original tokenizers leave it out too.
    for (const id of this.#idsOf(tokenizer, text)) if (Number.isInteger(id)) out.push(id);
  }

  /** The library checks parts of its file only when it uses them. */
  #idsOf(tokenizer: LibraryTokenizer, text: string): number[] {
    try {
      return tokenizer.encode(text, { add_special_tokens: false }).ids;
    } catch (error) {
      throw invalidModel(this.#file, `this tokenizer fails to encode (${(error as Error).message})`);
    }
  }
}
