import { AddedTokenFinder } from './added-tokens.js';
import { BpeModel } from './bpe-model.js';
import type { IdSink } from './id-sink.js';
import { readMerges } from './merges.js';
import { compileNormalizer, type Normalizer } from './normalizer.js';
import { compilePreTokenizer, type PreTokenizer } from './pre-tokenizer.js';
import type { AddedToken, TokenizerFiles } from './tokenizer-files.js';
import type { Vocabulary } from './vocabulary.js';
import { markBorders } from './word-border.js';

/** Well-formed text to ids, without what a post-processor adds. */
export interface PlainEncoder {
  /** `special`: recognize special tokens that are written in the text. */
  encode(text: string, special: boolean, out: IdSink): void;
}

/** The fast way of BPE tokenizers; undefined where `tokenizer.json` has a part that only the general one knows. */
export function openBpeEncoder(files: TokenizerFiles, vocabulary: Vocabulary): BpeEncoder | undefined {
  if (files.model.type !== 'BPE') return undefined;
  const normalizer = compileNormalizer(files.normalizer);
  const preTokenizer = compilePreTokenizer(files.preTokenizer);
  if (!normalizer || !preTokenizer) return undefined;
  const merges = readMerges(files, vocabulary);
  const model = BpeModel.open(files, vocabulary, merges, preTokenizer.byteLevel);
  if (!model) return undefined;
  const borders = preTokenizer.byteLevel ? undefined : markBorders(vocabulary, merges);
  const words: PreTokenizer = borders
    ? {
        byteLevel: false,
        split: (piece, first, emit) => preTokenizer.split(piece, first, (word) => borders(word, emit)),
      }
    : preTokenizer;
  return new BpeEncoder(normalizer, words, model, files.addedTokens);
}

export class BpeEncoder implements PlainEncoder {
  readonly #finders: Record<'plain' | 'special', { raw: AddedTokenFinder; normalized: AddedTokenFinder }>;

  constructor(
    private readonly normalizer: Normalizer,
    private readonly preTokenizer: PreTokenizer,
    readonly model: BpeModel,
    addedTokens: readonly AddedToken[],
  ) {
    const finders = (tokens: readonly AddedToken[]) => ({
      raw: new AddedTokenFinder(
        tokens.filter((token) => !token.normalized),
        (token) => token.content,
      ),
      normalized: new AddedTokenFinder(
        tokens.filter((token) => token.normalized),
        (token) => normalizer(token.content),
      ),
    });
    this.#finders = {
      plain: finders(addedTokens.filter((token) => !token.special)),
      special: finders(addedTokens),
    };
  }

  encode(text: string, special: boolean, out: IdSink): void {
    const { raw, normalized } = this.#finders[special ? 'special' : 'plain'];
    const emit = (word: string) => this.model.encode(word, out);
    const onToken = (token: AddedToken) => out.push(token.id);
    raw.split(
      text,
      (piece, begin) =>
        normalized.split(
          this.normalizer(piece),
          (part, partBegin) => this.preTokenizer.split(part, begin === 0 && partBegin === 0, emit),
          onToken,
        ),
      onToken,
    );
  }
}
