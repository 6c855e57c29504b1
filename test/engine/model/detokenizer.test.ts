import { afterAll, describe, expect, it } from 'vitest';
import { openTokenizer, type Tokenizer } from '../../../engine/index.js';
import { unfinishedLength } from '../../../engine/model/detokenizer.js';
import fc from '../../support/fast-check.js';
import { modelFolder, removeFolders } from './model-folder.js';
import { oddText } from './odd-text.js';
import { llama2Folder, phi3Folder, qwen2Folder } from './real-tokenizers.js';
import { haveSharedData, titled } from './shared-data.js';

afterAll(removeFolders);

/** A code unit that is half a pair without its other half. */
const loneSurrogate = /\p{Surrogate}/u;

function streamed(tokenizer: Tokenizer, ids: Iterable<number>): string {
  const stream = tokenizer.stream();
  let text = '';
  for (const id of ids) {
    const part = stream.push(id);
    expect(part).not.toMatch(loneSurrogate);
    text += part;
  }
  return text + stream.end();
}

const folders: [string, () => Promise<string>, boolean][] = [
  ['the demo model', async () => 'models/demo', true],
  ['Llama 2', llama2Folder, haveSharedData],
  ['Phi-3', phi3Folder, haveSharedData],
  ['Qwen2', qwen2Folder, haveSharedData],
];

describe.each(folders)('a stream with the vocabulary of %s', (_name, folder, available) => {
  let opened: Promise<Tokenizer> | undefined;
  const open = () => {
    opened ??= folder().then(openTokenizer);
    return opened;
  };

  it.skipIf(!available)(titled('equals decoding the whole, for any ids'), async () => {
    const tokenizer = await open();
    // Bytes' tokens come more often than their number would have it: they make unfinished code points.
    const id = fc.oneof(
      fc.nat(tokenizer.vocabSize - 1),
      fc.integer({ min: 0, max: Math.min(300, tokenizer.vocabSize - 1) }),
    );
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), (ids) => {
        expect(streamed(tokenizer, ids)).toBe(tokenizer.decode(ids, { skipSpecial: true }));
      }),
      { numRuns: 3000 },
    );
  });

  it.skipIf(!available)(titled('gives back any text that was encoded, never half a code point'), async () => {
    const tokenizer = await open();
    fc.assert(
      fc.property(oddText, (text) => {
        const ids = tokenizer.encode(text, { special: false, addBos: false });
        const whole = tokenizer.decode(ids, { skipSpecial: true });
        const parts: string[] = [];
        const stream = tokenizer.stream();
        for (const id of ids) parts.push(stream.push(id));
        parts.push(stream.end());
        expect(parts.join('')).toBe(whole);
        // Spaces for word marks and composed letters are these tokenizers' doing; the rest must come back.
        const shown = (value: string) => value.replaceAll('▁', ' ').normalize('NFC');
        expect(shown(whole)).toBe(shown(text).replaceAll(/\p{Surrogate}/gu, '\ufffd'));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a stream', () => {
  /** Token i is byte i; then a few longer ones. */
  const byteTokens = (
    extra: string[] = [],
    decoder: object = { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] },
  ) =>
    modelFolder({
      'tokenizer.json': {
        added_tokens: [{ id: 256, content: '<end>', special: true }],
        normalizer: null,
        pre_tokenizer: null,
        post_processor: null,
        decoder,
        model: {
          type: 'BPE',
          byte_fallback: true,
          vocab: Object.fromEntries([
            ...Array.from({ length: 256 }, (_, byte) => [
              `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
              byte,
            ]),
            ...extra.map((piece, i) => [piece, 257 + i]),
          ]),
          merges: [],
        },
      },
    }).then(openTokenizer);

  it('shows of the special tokens those alone that it is told to', async () => {
    const tokenizer = await openTokenizer('models/demo');
    const ids = tokenizer.encode('<|im_start|>a<|im_end|>', { special: true, addBos: false });
    const [begin] = ids;
    const shown = tokenizer.stream(new Set([begin!]));
    expect([...ids].map((id) => shown.push(id)).join('') + shown.end()).toBe('<|im_start|>a');
    expect(streamed(tokenizer, ids)).toBe('a');
  });

  it('holds a code point until it is whole', async () => {
    const tokenizer = await byteTokens();
    const stream = tokenizer.stream();
    const bytes = [...Buffer.from('é👩🏽‍🚀')];
    const parts = bytes.map((byte) => stream.push(byte));
    expect(parts.filter((part) => part !== '')).toEqual(['é', '👩', '🏽', '\u200d', '🚀']);
    expect(stream.end()).toBe('');
  });

  it('shows at once what can no longer become a code point, and at the end what never did', async () => {
    const tokenizer = await byteTokens();
    const stream = tokenizer.stream();
    expect([0xe2, 0x82, 0x41].map((byte) => stream.push(byte))).toEqual(['', '', '\ufffdA']);
    expect(stream.push(0xff)).toBe('\ufffd');
    expect(stream.push(0xf0)).toBe('');
    expect(stream.end()).toBe('\ufffd');
  });

  it('equals decoding the whole for every sequence of three bytes that matter', async () => {
    const tokenizer = await byteTokens();
    const bytes = [0x00, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0xf5, 0xff];
    for (const a of bytes) {
      for (const b of bytes) {
        for (const c of bytes) {
          const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.of(a, b, c));
          expect(streamed(tokenizer, [a, b, c])).toBe(whole);
        }
      }
    }
  });

  it('keeps a byte order mark', async () => {
    const tokenizer = await byteTokens();
    expect(streamed(tokenizer, [0xef, 0xbb, 0xbf, 0x61])).toBe('\ufeffa');
    expect(tokenizer.decode([0xef, 0xbb, 0xbf, 0x61], { skipSpecial: true })).toBe('\ufeffa');
  });

  it('passes over special and unknown tokens, also inside a code point', async () => {
    const tokenizer = await byteTokens();
    expect(streamed(tokenizer, [0xc3, 256, 0xa9, 999_999, -1, 256])).toBe('é');
    expect(tokenizer.decode([0x61, 256, 999_999], { skipSpecial: false })).toBe('a<end>');
  });

  it("drops the tokenizer's own space at the beginning, and only that one", async () => {
    const decoders = [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ];
    const tokenizer = await byteTokens(['▁', '▁▁', '▁a'], { type: 'Sequence', decoders });
    const [mark, two, a] = [257, 258, 259];
    for (const [ids, text] of [
      [[a, a], 'a a'],
      [[mark, a], ' a'],
      [[two], ' '],
      [[mark], ''],
      [[256, a], 'a'],
      [[0x20, a], ' a'],
      [[0x61, mark], 'a '],
    ] as [number[], string][]) {
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(text);
      expect(streamed(tokenizer, ids)).toBe(text);
    }
    expect(Buffer.from(tokenizer.tokenBytes(a!)).toString()).toBe(' a');
  });

  it('has all spaces where it goes on behind a text, which nothing that shows is not', async () => {
    const tokenizer = await byteTokens(['▁', '▁▁', '▁a'], { type: 'Metaspace', replacement: '▁' });
    const [mark, two, a] = [257, 258, 259];
    const behind = (ids: number[]) => {
      const stream = tokenizer.stream(new Set(), ids);
      return stream.push(a) + stream.push(a) + stream.end();
    };
    for (const ids of [[a], [mark], [two], [256, mark], [0x61], [0xc3]]) expect(behind(ids)).toBe(' a a');
    for (const ids of [[], [256], [999_999]]) expect(behind(ids)).toBe('a a');
  });

  it('decodes nothing to nothing', async () => {
    const tokenizer = await byteTokens();
    expect(tokenizer.decode([], { skipSpecial: true })).toBe('');
    expect(tokenizer.stream().end()).toBe('');
  });

  it('gives out bytes that the caller may change', async () => {
    const tokenizer = await byteTokens();
    tokenizer.tokenBytes(0x61)[0] = 0x62;
    expect(tokenizer.decode([0x61], { skipSpecial: true })).toBe('a');
    expect(tokenizer.tokenBytes(-1)).toHaveLength(0);
    expect(tokenizer.tokenBytes(1e9)).toHaveLength(0);
  });
});

describe('unfinished bytes at the end', () => {
  it.each([
    [[], 0],
    [[0x61], 0],
    [[0xc3], 1],
    [[0xc3, 0xa9], 0],
    [[0xe2, 0x82], 2],
    [[0xf0, 0x9f, 0x99], 3],
    [[0xf0, 0x9f, 0x99, 0x82], 0],
    [[0xe0, 0x80], 0],
    [[0xed, 0xa0], 0],
    [[0xf4, 0x90], 0],
    [[0x80, 0x80, 0x80, 0x80], 0],
    [[0xc1], 0],
    [[0xf5], 0],
  ])('of %j are %i', (bytes, expected) => {
    expect(unfinishedLength(Uint8Array.from(bytes))).toBe(expected);
  });
});
