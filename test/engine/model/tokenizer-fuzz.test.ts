import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { EngineError, openTokenizer } from '../../../engine/index.js';
import fc from '../../support/fast-check.js';
import { modelFolder, removeFolders } from './model-folder.js';

afterAll(removeFolders);
afterAll(() => vi.restoreAllMocks());

const bytePieces = Object.fromEntries(['a', 'b', 'Ġ', 'ab', 'Ġab'].map((piece, id) => [piece, id]));

/** A file with a part of every kind that is read by our own code. */
const rich = {
  added_tokens: [
    { id: 5, content: '<s>', special: true, normalized: false, lstrip: true },
    { id: 6, content: 'b!', special: false, normalized: true, single_word: true },
  ],
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'NFC' },
      { type: 'Replace', pattern: { String: 'x' }, content: 'a' },
      { type: 'Prepend', prepend: 'a' },
    ],
  },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: ' ?\\p{L}+|\\s' }, behavior: 'Isolated', invert: false },
      { type: 'Digits', individual_digits: true },
      { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    ],
  },
  post_processor: {
    type: 'Sequence',
    processors: [
      { type: 'ByteLevel' },
      {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>' } }, { Sequence: { id: 'A' } }],
        special_tokens: { '<s>': { id: '<s>', ids: [5] } },
      },
    ],
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: 'Ġ' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: true,
    vocab: bytePieces,
    merges: ['a b', 'Ġ ab'],
  },
};
const config = {
  bos_token: { content: '<s>' },
  add_bos_token: true,
  added_tokens_decoder: { 7: { content: '<t>' } },
};

/** All places in a JSON value, as lists of keys. */
function places(value: unknown, at: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [at];
  return [at, ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...at, key]))];
}

function replaced(value: unknown, at: readonly string[], by: unknown): unknown {
  const [key, ...rest] = at;
  if (key === undefined) return by;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  (copy as Record<string, unknown>)[key] = replaced((copy as Record<string, unknown>)[key], rest, by);
  return copy;
}

const odd = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    'x',
    0,
    -1,
    1.5,
    2 ** 31,
    1e300,
    [],
    {},
    [null],
    { type: 'x' },
    ['a'],
    [[]],
    '(',
    '\ud800',
  ),
  fc.jsonValue({ maxDepth: 2 }),
);

describe('fuzzed tokenizer files', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('are understood or refused, never anything else', async () => {
    // The general library warns of what it does not know.
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    const folder = await modelFolder();
    let understood = 0;
    const jsonPlaces = places(rich);
    const configPlaces = places(config);
    const change = fc.oneof(
      fc.record({ of: fc.constant('json' as const), at: fc.constantFrom(...jsonPlaces), by: odd }),
      fc.record({ of: fc.constant('config' as const), at: fc.constantFrom(...configPlaces), by: odd }),
    );
    await fc.assert(
      fc.asyncProperty(change, async ({ of, at, by }) => {
        await writeFile(
          path.join(folder, 'tokenizer.json'),
          JSON.stringify(of === 'json' ? replaced(rich, at, by) : rich),
        );
        await writeFile(
          path.join(folder, 'tokenizer_config.json'),
          JSON.stringify(of === 'config' ? replaced(config, at, by) : config),
        );
        try {
          const tokenizer = await openTokenizer(folder);
          const ids = tokenizer.encode('ab ab1 <s>b! é', { special: true, addBos: true });
          const stream = tokenizer.stream();
          const text = Array.from(ids, (id) => stream.push(id)).join('') + stream.end();
          expect(text).toBe(tokenizer.decode(ids, { skipSpecial: true }));
          understood++;
        } catch (error) {
          expect(error).toBeInstanceOf(EngineError);
          expect((error as EngineError).code).toBe('model_invalid');
        }
      }),
      { numRuns: 1200 },
    );
    expect(understood).toBeGreaterThan(100);
  });
});
