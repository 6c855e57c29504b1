import { describe, expect, it } from 'vitest';
import { PairMerger } from '../../../engine/model/bpe.js';
import { MergeTable } from '../../../engine/model/merge-table.js';
import { readMerges } from '../../../engine/model/merges.js';
import { readVocabulary } from '../../../engine/model/vocabulary.js';
import { markBorders } from '../../../engine/model/word-border.js';
import fc from '../../support/fast-check.js';

function parts(pieces: string[], merges: string[]) {
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece, id]));
  const files = { file: 'tokenizer.json', model: { type: 'BPE', vocab, merges }, addedTokens: [] } as never;
  const vocabulary = readVocabulary(files);
  return { vocabulary, merges: readMerges(files, vocabulary) };
}

function cut(pieces: string[], merges: string[], text: string): string[] | undefined {
  const { vocabulary, merges: read } = parts(pieces, merges);
  const words: string[] = [];
  const splitter = markBorders(vocabulary, read);
  splitter?.(text, (word) => words.push(word));
  return splitter && words;
}

describe('borders at word marks', () => {
  const pieces = ['▁', 'a', 'b', '▁a', '▁▁', '▁▁a'];
  const merges = ['▁ a', '▁ ▁', '▁ ▁a'];

  it('lie before each run of marks', () => {
    expect(cut(pieces, merges, '▁ab▁▁a▁b')).toEqual(['▁ab', '▁▁a', '▁b']);
    expect(cut(pieces, merges, 'ab')).toEqual(['ab']);
    expect(cut(pieces, merges, '')).toEqual([]);
    expect(cut(pieces, merges, '▁▁▁')).toEqual(['▁▁▁']);
  });

  it('are not where a merge crosses', () => {
    expect(cut([...pieces, 'b▁'], [...merges, 'b ▁'], 'a▁b▁a')).toEqual(['a', '▁b▁a']);
  });

  it('are nowhere if marks are unknown or bytes merge', () => {
    expect(cut(['a', 'b'], [], 'a▁b')).toBeUndefined();
    expect(cut(['▁', '<0x0A>', '<0x0A>▁'], ['<0x0A> ▁'], 'a▁b')).toBeUndefined();
  });

  it('change nothing in what merging gives', () => {
    const letters = ['▁', 'a', 'b'];
    // Any merges over three letters, with those that cross a border among them.
    const grammar = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 10 }).map((pairs) => {
      const found = [...letters];
      const list: string[] = [];
      for (const [left, right] of pairs) {
        const [l, r] = [found[left % found.length]!, found[right % found.length]!];
        if (found.includes(l + r)) continue;
        found.push(l + r);
        list.push(`${l} ${r}`);
      }
      return { pieces: found, list };
    });
    fc.assert(
      fc.property(
        grammar,
        fc.string({ unit: fc.constantFrom(...letters), maxLength: 30 }),
        ({ pieces: found, list }, text) => {
          const { vocabulary, merges: read } = parts(found, list);
          const table = new MergeTable(read.count);
          for (let rank = 0; rank < read.count; rank++) {
            table.add(read.left[rank]!, read.right[rank]!, rank, read.merged[rank]!);
          }
          const merged = (word: string) => {
            const symbols = Int32Array.from(word, (char) => found.indexOf(char));
            return Array.from(symbols.subarray(0, new PairMerger(table).merge(symbols, symbols.length)));
          };
          const words: string[] = [];
          markBorders(vocabulary, read)!(text, (word) => words.push(word));
          expect(words.join('')).toBe(text);
          expect(words.flatMap(merged)).toEqual(merged(text));
        },
      ),
      { numRuns: 2000 },
    );
  });
});
