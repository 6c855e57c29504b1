import { invalidModel, quoted } from './model-files.js';
import { PieceIndex } from './piece-index.js';
import { isRecord, isTokenId, maxTokenId, type TokenizerFiles } from './tokenizer-files.js';

export interface Vocabulary {
  /** Piece of each id, with the added tokens; holes are undefined. */
  readonly pieces: readonly (string | undefined)[];
  /** The model's own pieces, without added tokens that it lacks. */
  readonly index: PieceIndex;
}

/** `model.vocab`: an object from piece to id, or Unigram's list of [piece, score]. */
export function readVocabulary(files: TokenizerFiles): Vocabulary {
  const { file, model, addedTokens } = files;
  const vocab = model.vocab;
  const own: (string | undefined)[] = [];
  const add = (pieces: (string | undefined)[], piece: string, id: number) => {
    while (pieces.length < id) pieces.push(undefined);
    pieces[id] = piece;
  };
  if (Array.isArray(vocab)) {
    if (vocab.length > maxTokenId) throw invalidModel(file, `model.vocab has ${vocab.length} entries`);
    for (const [id, entry] of vocab.entries()) {
      const piece: unknown = Array.isArray(entry) ? entry[0] : undefined;
      if (typeof piece !== 'string') throw invalidModel(file, `model.vocab[${id}]: expected [piece, score]`);
      add(own, piece, id);
    }
  } else if (isRecord(vocab)) {
    for (const piece of Object.keys(vocab)) {
      const id = vocab[piece];
      if (!isTokenId(id)) {
        throw invalidModel(
          file,
          `model.vocab: ${quoted(piece)} has the id ${quoted(id)}; expected 0 to ${maxTokenId - 1}`,
        );
      }
      add(own, piece, id);
    }
  } else {
    throw invalidModel(file, 'model.vocab: expected an object from pieces to ids');
  }
  const pieces = [...own];
  for (const token of addedTokens) add(pieces, token.content, token.id);
  return { pieces, index: new PieceIndex(own) };
}
