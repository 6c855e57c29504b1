import { byteToken } from './bpe-model.js';
import type { Merges } from './merges.js';
import type { Splitter } from './pre-tokenizer.js';
import type { Vocabulary } from './vocabulary.js';

const mark = '\u2581';

/**
 * SentencePiece models merge over a whole text without cutting it into words first. Where no merge makes a piece that
 * has a word mark after the character c, no merge can cross the border between c and a mark, so cutting there changes
 * nothing, and the words can be cached. Undefined where this proof does not hold.
 */
export function markBorders(vocabulary: Vocabulary, merges: Merges): Splitter | undefined {
  // Unknown marks could fuse with unknown characters before them.
  if (vocabulary.index.get(mark) === undefined) return undefined;
  const byteIds = new Set(Array.from({ length: 256 }, (_, byte) => vocabulary.index.get(byteToken(byte))));
  const crossed = new Set<string>();
  for (let rank = 0; rank < merges.count; rank++) {
    // The piece of a byte's token does not show the character that the byte belongs to.
    if (byteIds.has(merges.left[rank]) || byteIds.has(merges.right[rank])) return undefined;
    const piece = vocabulary.pieces[merges.merged[rank]!]!;
    for (let at = piece.indexOf(mark, 1); at > 0; at = piece.indexOf(mark, at + 1)) {
      if (piece[at - 1] !== mark) crossed.add(piece[at - 1]!);
    }
  }
  return (text, emit) => {
    let begin = 0;
    for (let at = text.indexOf(mark, 1); at > 0; at = text.indexOf(mark, at + 1)) {
      const before = text[at - 1]!;
      if (before === mark || crossed.has(before)) continue;
      emit(text.slice(begin, at));
      begin = at;
    }
    if (begin < text.length) emit(text.slice(begin));
  };
}
