import { describe, expect, it } from 'vitest';
import { compilePreTokenizer } from '../../../engine/model/pre-tokenizer.js';
import { translateRegex } from '../../../engine/model/regex-translation.js';

function words(component: object | null, text: string, first = true): string[] {
  const out: string[] = [];
  compilePreTokenizer(component as never)!.split(text, first, (word) => out.push(word));
  return out;
}

const split = (pattern: object, behavior: string, invert = false) => ({
  type: 'Split',
  pattern,
  behavior,
  invert,
});

describe('pre-tokenizer', () => {
  it("cuts by GPT-2's pattern", () => {
    const gpt2 = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
    expect(words(gpt2, "I'm 42  years\n old!")).toEqual(['I', "'m", ' 42', ' ', ' years', '\n', ' old', '!']);
  });

  it('puts a space before where the file asks for it', () => {
    const prefixed = { type: 'ByteLevel', add_prefix_space: true, use_regex: true };
    expect(words(prefixed, 'a b')).toEqual([' a', ' b']);
    expect(words(prefixed, ' a b')).toEqual([' a', ' b']);
  });

  it.each([
    ['Isolated', false, ['a', '-', '-', 'b', '-', 'c']],
    ['Removed', false, ['a', 'b', 'c']],
    ['Removed', true, ['-', '-', '-']],
    ['MergedWithPrevious', false, ['a-', '-', 'b-', 'c']],
    ['MergedWithNext', false, ['a', '-', '-b', '-c']],
    ['Contiguous', false, ['a', '--', 'b', '-', 'c']],
  ])('splits with the behaviour %s (invert %s)', (behavior, invert, expected) => {
    expect(words(split({ String: '-' }, behavior, invert), 'a--b-c')).toEqual(expected);
    expect(words(split({ Regex: '-' }, behavior, invert), 'a--b-c')).toEqual(expected);
  });

  it('keeps what no pattern matches, and passes over empty matches', () => {
    expect(words(split({ Regex: '\\d*' }, 'Isolated'), 'ab12🙂3')).toEqual(['ab', '12', '🙂', '3']);
  });

  it('applies a sequence one after another', () => {
    const sequence = {
      type: 'Sequence',
      pretokenizers: [
        split({ Regex: '\\s' }, 'Isolated'),
        { type: 'Digits', individual_digits: true },
        { type: 'Punctuation' },
        { type: 'ByteLevel', use_regex: false },
      ],
    };
    expect(words(sequence, 'ab12, c')).toEqual(['ab', '1', '2', ',', ' ', 'c']);
  });

  it('groups digits unless they are to stand alone', () => {
    expect(words({ type: 'Digits', individual_digits: false }, 'ab12c')).toEqual(['ab', '12', 'c']);
  });

  it('marks words as SentencePiece does', () => {
    const metaspace = (fields: object) => ({ type: 'Metaspace', replacement: '▁', ...fields });
    expect(words(metaspace({ prepend_scheme: 'always' }), 'a  b')).toEqual(['▁a', '▁', '▁b']);
    expect(words(metaspace({ prepend_scheme: 'always', split: false }), 'a b')).toEqual(['▁a▁b']);
    expect(words(metaspace({ prepend_scheme: 'never', split: false }), 'a b')).toEqual(['a▁b']);
    expect(words(metaspace({ prepend_scheme: 'first', split: false }), 'a', true)).toEqual(['▁a']);
    expect(words(metaspace({ prepend_scheme: 'first', split: false }), 'a', false)).toEqual(['a']);
    expect(words(metaspace({ add_prefix_space: false, split: false }), 'a')).toEqual(['a']);
  });

  it.each([
    ['Whitespace', { type: 'Whitespace' }],
    ['BertPreTokenizer', { type: 'BertPreTokenizer' }],
    ['a pattern that JavaScript cannot say', split({ Regex: '\\p{L}++' }, 'Isolated')],
    ['an unknown behaviour', split({ String: '-' }, 'Sideways')],
    [
      'a part after ByteLevel',
      { type: 'Sequence', pretokenizers: [{ type: 'ByteLevel' }, { type: 'Digits' }] },
    ],
  ])('leaves %s to the general tokenizer', (_what, component) => {
    expect(compilePreTokenizer(component as never)).toBeUndefined();
  });
});

describe('regex translation', () => {
  const matches = (source: string, text: string) =>
    text.match(new RegExp(translateRegex(source)!, 'gu')) ?? [];

  it('expands ignored case, with the letters that fold beyond ASCII', () => {
    expect(matches("(?i:'s|'re)", "'S 's 'ſ 'Re 'rE 'r")).toEqual(["'S", "'s", "'ſ", "'Re", "'rE"]);
    expect(matches('(?i)ab|c', 'AB aB C')).toEqual(['AB', 'aB', 'C']);
    expect(matches('(?i:a)b', 'Ab AB ab')).toEqual(['Ab', 'ab']);
  });

  it("has Unicode's white space, not JavaScript's", () => {
    expect(matches('\\s', 'a\u0085b\ufeffc\u3000')).toEqual(['\u0085', '\u3000']);
    expect(matches('[^\\s]', ' \u0085\ufeff')).toEqual(['\ufeff']);
    expect(matches('\\S+', 'ab\u0085c')).toEqual(['ab', 'c']);
  });

  it('knows scripts, digits, hex, and escapes that JavaScript calls invalid', () => {
    expect(matches('\\p{Han}+', 'a中文b')).toEqual(['中文']);
    expect(matches('[\\p{^L}]', 'a1')).toEqual(['1']);
    expect(matches('\\d', '٣x')).toEqual(['٣']);
    expect(matches('\\x{4e00}|\\x41|\\u0042', '一AB')).toEqual(['一', 'A', 'B']);
    expect(matches('\\-\\"[\\-\\"/]', '-""')).toEqual(['-""']);
    expect(matches('a{,2}b', 'aab')).toEqual(['aab']);
    expect(matches('.', '\n\u2028')).toEqual(['\u2028']);
  });

  it.each([
    'a++',
    'a*+',
    '(?>a)',
    '[a[bc]]',
    '[a&&b]',
    '^a',
    'a$',
    '\\p{Nonsense}',
    '\\Ka',
    '(a',
    'a)',
    '[a',
    '(?<n>a)',
  ])('declines %s', (source) => {
    expect(translateRegex(source)).toBeUndefined();
  });
});
