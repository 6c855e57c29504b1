import { invalidModel, quoted } from './model-files.js';
import type { PieceIndex } from './piece-index.js';
import type { TokenizerFiles } from './tokenizer-files.js';
import type { Vocabulary } from './vocabulary.js';

/** In order of rank, as columns of ids. */
export interface Merges {
  readonly count: number;
  readonly left: Int32Array;
  readonly right: Int32Array;
  readonly merged: Int32Array;
}

/** `model.merges`: "left right", or [left, right] in newer files. */
export function readMerges(files: TokenizerFiles, vocabulary: Vocabulary): Merges {
  const { file, model } = files;
  if (!Array.isArray(model.merges)) throw invalidModel(file, 'model.merges: expected a list');
  const list = model.merges as unknown[];
  const count = list.length;
  const merges = {
    count,
    left: new Int32Array(count),
    right: new Int32Array(count),
    merged: new Int32Array(count),
  };
  for (let rank = 0; rank < count; rank++) {
    const entry = list[rank];
    const isPair =
      Array.isArray(entry) && entry.length === 2 && entry.every((part) => typeof part === 'string');
    const text = isPair ? entry.join(' ') : entry;
    if (typeof text !== 'string') {
      throw invalidModel(file, `model.merges[${rank}]: expected two pieces, found ${quoted(entry)}`);
    }
    const space = isPair ? (entry[0] as string).length : borderOf(text, vocabulary.index);
    const left = vocabulary.index.find(text, 0, space);
    const right = vocabulary.index.find(text, space + 1, text.length);
    const merged = vocabulary.index.find(text, 0, text.length, space);
    if (space < 0 || left < 0 || right < 0 || merged < 0) {
      throw invalidModel(
        file,
        `model.merges[${rank}]: ${quoted(entry)} is not two pieces of model.vocab that join to a third`,
      );
    }
    merges.left[rank] = left;
    merges.right[rank] = right;
    merges.merged[rank] = merged;
  }
  return merges;
}

/** The space between the two pieces; where a piece itself has spaces, the first place that gives known pieces. */
function borderOf(text: string, index: PieceIndex): number {
  const first = text.indexOf(' ');
  let space = first;
  while (text.indexOf(' ', space + 1) >= 0) {
    const known = index.find(text, 0, space) >= 0 && index.find(text, space + 1, text.length) >= 0;
    if (known) return space;
    space = text.indexOf(' ', space + 1);
  }
  return space;
}
