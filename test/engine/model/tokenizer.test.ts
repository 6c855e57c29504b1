import { afterAll, describe, expect, it } from 'vitest';
import { EngineError, openTokenizer, type Tokenizer } from '../../../engine/index.js';
import fc from '../../support/fast-check.js';
import { modelFolder, refusal, removeFolders } from './model-folder.js';
import { oddText } from './odd-text.js';
import { llama2Folder, llama3Folder, phi3Folder, qwen2Folder } from './real-tokenizers.js';
import { haveSharedData, titled } from './shared-data.js';

afterAll(removeFolders);

const plain = { special: false, addBos: false };
const ids = (tokenizer: Tokenizer, text: string, options = plain) =>
  Array.from(tokenizer.encode(text, options));

/** A character-level BPE: a, b, c, ab, abc and special tokens. */
const small = {
  added_tokens: [
    { id: 10, content: '<s>', special: true, normalized: false },
    { id: 11, content: '</s>', special: true, normalized: false },
    { id: 12, content: '<tool>', special: false, normalized: false },
  ],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    fuse_unk: false,
    byte_fallback: false,
    vocab: { '<unk>': 0, a: 1, b: 2, c: 3, ab: 4, abc: 5 },
    merges: ['a b', 'ab c'],
  },
};

const open = async (json: object, config: object = {}) =>
  openTokenizer(await modelFolder({ 'tokenizer.json': json, 'tokenizer_config.json': config }));

const withModel = (fields: object) => ({ ...small, model: { ...small.model, ...fields } });

describe('tokenizer', () => {
  it('encodes nothing to nothing', async () => {
    expect(ids(await open(small), '')).toEqual([]);
  });

  it('gives unknown characters the unknown token, fused where the file says so', async () => {
    expect(ids(await open(small), 'abcxyzab')).toEqual([5, 0, 0, 0, 4]);
    expect(ids(await open(withModel({ fuse_unk: true })), 'abcxyzabx')).toEqual([5, 0, 4, 0]);
    expect(ids(await open(withModel({ unk_token: null })), 'axb')).toEqual([4]);
  });

  it('gives up a text of many times more ids than the context, in one word or in many', async () => {
    const words = {
      ...small,
      pre_tokenizer: { type: 'Split', pattern: { String: 'c' }, behavior: 'MergedWithPrevious' },
    };
    for (const tokenizer of [await open(small), await open(words)]) {
      const encode = (text: string, contextLength?: number) =>
        tokenizer.encode(text, { ...plain, ...(contextLength && { contextLength }) }).length;
      expect(encode('abc'.repeat(1000))).toBe(1000);
      expect(encode('abc'.repeat(1000), 250)).toBe(1000);
      expect(() => encode('abc'.repeat(1000), 20)).toThrow(
        expect.objectContaining({
          code: 'context_length_exceeded',
          part: 'prompt',
          message:
            "This model's context length is 20 tokens, but the prompt has more than 80. Shorten the prompt.",
        }),
      );
      // One whose length leaves no doubt is not even merged.
      expect(() => encode('abc'.repeat(1000), 1)).toThrow('the prompt has more than 4');
    }
  });

  it('reads merges as pairs as well as strings', async () => {
    const pairs = [
      ['a', 'b'],
      ['ab', 'c'],
    ];
    expect(ids(await open(withModel({ merges: pairs })), 'abc')).toEqual([5]);
  });

  it('takes whole words first only where the file says so', async () => {
    expect(ids(await open(withModel({ merges: [] })), 'abc')).toEqual([1, 2, 3]);
    expect(ids(await open(withModel({ merges: [], ignore_merges: true })), 'abc')).toEqual([5]);
  });

  it('recognizes special tokens only on request, and others always', async () => {
    const tokenizer = await open(small);
    expect(ids(tokenizer, 'a<s>b', { special: true, addBos: false })).toEqual([1, 10, 2]);
    expect(ids(tokenizer, 'a<s>b')).toEqual([1, 0, 0, 0, 2]);
    expect(ids(tokenizer, 'a<tool>b')).toEqual([1, 12, 2]);
    expect([10, 12, 5, 99].map((id) => tokenizer.isSpecial(id))).toEqual([true, false, false, false]);
  });

  it('cannot be made to forge a special token that the vocabulary lists as a word', async () => {
    const listed = withModel({ ignore_merges: true, vocab: { ...small.model.vocab, '<s>': 10 } });
    expect(ids(await open(listed), '<s>')).not.toContain(10);
  });

  it('adds tokens that only tokenizer_config.json has', async () => {
    const config = {
      added_tokens_decoder: { 10: { content: '<s>', special: false }, 13: { content: '<x>', special: true } },
    };
    const tokenizer = await open(small, config);
    expect(ids(tokenizer, '<x><s>', { special: true, addBos: false })).toEqual([13, 10]);
    expect(tokenizer.isSpecial(10)).toBe(true);
    expect(tokenizer.vocabSize).toBe(14);
  });

  it('takes a lone half of a surrogate pair for U+FFFD', async () => {
    const tokenizer = await open(withModel({ vocab: { ...small.model.vocab, '\ufffd': 6 } }));
    expect(ids(tokenizer, 'a\ud800b\udc00')).toEqual([1, 6, 2, 6]);
  });
});

describe('one word of eight million characters', () => {
  it('is encoded whole, or refused in our own words', async () => {
    const tokenizer = await openTokenizer('models/demo');
    const text = '中'.repeat(8_000_000);
    try {
      expect(tokenizer.decode(tokenizer.encode(text, plain), { skipSpecial: true })).toBe(text);
    } catch (error) {
      expect(error).toBeInstanceOf(EngineError);
      expect((error as EngineError).message).toContain('too long');
    }
  });
});

describe('what is put around a text', () => {
  const template = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>' } }, { Sequence: { id: 'A' } }, { SpecialToken: { id: '</s>' } }],
    special_tokens: { '<s>': { id: '<s>', ids: [10] }, '</s>': { id: '</s>', ids: [11] } },
  };
  const names = { bos_token: '<s>', eos_token: { content: '</s>' } };
  const around = async (postProcessor: object | null, config: object) =>
    ids(await open({ ...small, post_processor: postProcessor }, config), 'a', {
      special: false,
      addBos: true,
    });

  it.each<[string, object | null, object, number[]]>([
    ['nothing', null, names, [1]],
    ["the file's template", template, names, [10, 1, 11]],
    [
      'a template within a sequence',
      { type: 'Sequence', processors: [{ type: 'ByteLevel' }, template] },
      names,
      [10, 1, 11],
    ],
    ['a bos that only the config asks for', null, { ...names, add_bos_token: true }, [10, 1]],
    ['no bos where the config forbids it', template, { ...names, add_bos_token: false }, [1, 11]],
    ['one bos, not two', template, { ...names, add_bos_token: true }, [10, 1, 11]],
    ['an eos as the config says', null, { ...names, add_eos_token: true }, [1, 11]],
    ['no eos where the config forbids it', template, { ...names, add_eos_token: false }, [10, 1]],
    ["the bos of Llama's class", null, { ...names, tokenizer_class: 'LlamaTokenizer' }, [10, 1]],
    [
      "no bos where Llama's config forbids it",
      null,
      { ...names, tokenizer_class: 'LlamaTokenizerFast', add_bos_token: false },
      [1],
    ],
    ['nothing without a bos token', null, { add_bos_token: true, bos_token: null }, [1]],
    ['the ends of BERT', { type: 'RobertaProcessing', cls: ['<s>', 10], sep: ['</s>', 11] }, {}, [10, 1, 11]],
  ])('is %s', async (_what, postProcessor, config, expected) => {
    expect(await around(postProcessor, config)).toEqual(expected);
  });

  it('stays away without addBos', async () => {
    expect(ids(await open({ ...small, post_processor: template }, names), 'a')).toEqual([1]);
  });
});

describe('other kinds of tokenizers', () => {
  const unigram = {
    ...small,
    normalizer: { type: 'Precompiled', precompiled_charsmap: null },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    model: {
      type: 'Unigram',
      unk_id: 0,
      vocab: [
        ['<unk>', 0],
        ['▁', -3],
        ['▁hello', -1],
        ['▁world', -1],
        ['s', -2],
      ],
    },
  };

  it('go by the general library', async () => {
    const tokenizer = await open(unigram);
    expect(ids(tokenizer, 'hello worlds')).toEqual([2, 3, 4]);
    expect(tokenizer.decode([2, 3, 4], { skipSpecial: true })).toBe('hello worlds');
    expect(ids(tokenizer, 'hello<s>', { special: true, addBos: false })).toEqual([2, 10]);
    expect(ids(tokenizer, 'hello<s>')).not.toContain(10);
    expect(ids(tokenizer, '')).toEqual([]);
  });

  it('have their WordPiece joined again', async () => {
    const wordPiece = {
      ...small,
      pre_tokenizer: { type: 'BertPreTokenizer' },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: {
        type: 'WordPiece',
        unk_token: '<unk>',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: { '<unk>': 0, play: 1, '##ing': 2, games: 3 },
      },
    };
    const tokenizer = await open(wordPiece);
    expect(ids(tokenizer, 'playing games')).toEqual([1, 2, 3]);
    expect(tokenizer.decode([1, 2, 3], { skipSpecial: true })).toBe('playing games');
  });
});

describe('a tokenizer that is refused', () => {
  it.each([
    ['tokenizer.model', 'save_pretrained'],
    ['qwen.tiktoken', 'save_pretrained'],
    ['readme.txt', 'tokenizer.json is missing'],
  ])('has only %s', async (name, part) => {
    const folder = await modelFolder({ [name]: 'x' });
    expect(await refusal(() => openTokenizer(folder))).toContain(part);
  });

  it.each<[string, object | string, string]>([
    ['is no JSON', '{"model":', 'not valid JSON'],
    ['is a list', [], 'expected a JSON object'],
    ['has no model', { ...small, model: null }, 'model'],
    ['has a model of an unknown kind', withModel({ type: 'Oracle' }), 'not supported'],
    ['has no vocabulary', withModel({ vocab: 7 }), 'model.vocab'],
    ['has an id that is text', withModel({ vocab: { a: '1' } }), '"a" has the id "1"'],
    ['has a negative id', withModel({ vocab: { a: -1 } }), '-1'],
    ['has an absurd id', withModel({ vocab: { a: 2 ** 31 } }), '2147483648'],
    [
      'has an added token with an absurd id',
      { ...small, added_tokens: [{ id: 1e12, content: 'x' }] },
      'added_tokens',
    ],
    ['has no merges', withModel({ merges: null }), 'model.merges'],
    ['has a merge of one piece', withModel({ merges: ['ab'] }), 'model.merges[0]'],
    ['has a merge of unknown pieces', withModel({ merges: ['a b', 'x y'] }), 'model.merges[1]: "x y"'],
    ['has a merge into an unknown piece', withModel({ merges: ['b c'] }), 'model.merges[0]: "b c"'],
    ['has a merge of three pieces', withModel({ merges: [['a', 'b', 'c']] }), 'model.merges[0]'],
    ['has an unknown decoder', { ...small, decoder: { type: 'Mirror' } }, 'decoder: {"type":"Mirror"}'],
    ['has an unknown post-processor', { ...small, post_processor: { type: 'Mirror' } }, 'post_processor'],
    ['has a component without type', { ...small, normalizer: {} }, 'normalizer'],
  ])('%s', async (_what, json, part) => {
    const folder = await modelFolder({ 'tokenizer.json': json });
    const message = await refusal(() => openTokenizer(folder));
    expect(message).toContain('tokenizer.json');
    expect(message).toContain(part);
  });
});

describe("a user's text", () => {
  const folders: [string, () => Promise<string>, boolean, string[]][] = [
    ['the demo model', async () => 'models/demo', true, ['<|bos|>', '<|im_start|>', '<|im_end|>']],
    ['Llama 2', llama2Folder, haveSharedData, ['<s>', '</s>', '<unk>']],
    ['Llama 3', llama3Folder, haveSharedData, ['<|begin_of_text|>', '<|end_of_text|>']],
    ['Phi-3', phi3Folder, haveSharedData, ['<s>', '<|end|>', '<|user|>', '<|endoftext|>']],
    ['Qwen2', qwen2Folder, haveSharedData, ['<|im_start|>', '<|im_end|>', '<|endoftext|>']],
  ];

  describe.each(folders)('with the vocabulary of %s', (_name, folder, available, forged) => {
    it.skipIf(!available)(titled('cannot forge a special token'), async () => {
      const tokenizer = await openTokenizer(await folder());
      const text = fc.array(fc.oneof(fc.constantFrom(...forged), oddText), { minLength: 1, maxLength: 5 });
      fc.assert(
        fc.property(text, (parts) => {
          const found = ids(tokenizer, parts.join(''));
          expect(found.filter((id) => tokenizer.isSpecial(id))).toEqual([]);
        }),
        { numRuns: 500 },
      );
      // The same text does hold them when it is asked to.
      const asked = ids(tokenizer, forged[0]!, { special: true, addBos: false });
      expect(asked.some((id) => tokenizer.isSpecial(id))).toBe(true);
    });
  });
});
