import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { openTokenizer, type Tokenizer } from '../../../engine/index.js';
import { removeFolders } from './model-folder.js';
import {
  cl100kFolder,
  gpt2Folder,
  llama2Folder,
  llama3Folder,
  o200kFolder,
  phi3Folder,
  qwen2Folder,
} from './real-tokenizers.js';
import { haveSharedData, sharedJson, titled } from './shared-data.js';

afterAll(removeFolders);

interface Vector {
  text: string;
  ids: number[];
  /** With special tokens shown, where the source has it. */
  decoded?: string;
}

interface VectorSet {
  file: string;
  key: string;
  addBos: boolean;
}

const llamacpp = (key: string): VectorSet => ({ file: 'llamacpp_vocab_tests.json', key, addBos: false });
const tiktoken = (key: string): VectorSet => ({ file: 'tiktoken_testplans.json', key, addBos: false });
const transformersJs = (key: string, addBos = false): VectorSet => ({
  file: 'transformersjs.json',
  key,
  addBos,
});
const swift = (key: string): VectorSet => ({ file: 'swift_tokenizer_tests.json', key, addBos: true });

const vocabularies: [name: string, folder: () => Promise<string>, sets: VectorSet[]][] = [
  [
    'GPT-2',
    gpt2Folder,
    [
      llamacpp('gpt-2'),
      tiktoken('r50k_base'),
      transformersJs('Xenova/gpt2'),
      transformersJs('openai-community/gpt2'),
      swift('distilgpt2'),
    ],
  ],
  ['cl100k', cl100kFolder, [tiktoken('cl100k_base'), transformersJs('Xenova/gpt-4')]],
  ['o200k', o200kFolder, [tiktoken('o200k_base'), transformersJs('Xenova/gpt-4o')]],
  [
    'Llama 3',
    llama3Folder,
    [
      llamacpp('llama-bpe'),
      transformersJs('Xenova/llama3-tokenizer'),
      transformersJs('Xenova/llama3-tokenizer-new', true),
      swift('pcuenq/Llama-3.2-1B-Instruct-tokenizer'),
    ],
  ],
  [
    'Llama 2',
    llama2Folder,
    [
      llamacpp('llama-spm'),
      transformersJs('Xenova/llama-tokenizer', true),
      swift('coreml-projects/Llama-2-7b-chat-coreml'),
    ],
  ],
  ['Phi-3', phi3Folder, [llamacpp('phi-3')]],
  [
    'Qwen2',
    qwen2Folder,
    [llamacpp('qwen2'), llamacpp('deepseek-r1-qwen'), transformersJs('Xenova/Qwen1.5-0.5B-Chat')],
  ],
];

/** What decoders with `clean_up_tokenization_spaces` take away; we never do, since it loses what the model wrote. */
const cleanedUp = (text: string) => text.replace(/ ([.?!,])/g, '$1').replace(/ ('m|'s|'ve|'re|n't)/g, '$1');

describe.skipIf(!haveSharedData).each(vocabularies)(titled('expected ids of %s'), (_name, folder, sets) => {
  let opened: Promise<Tokenizer> | undefined;
  const tokenizer = () => {
    opened ??= folder().then(openTokenizer);
    return opened;
  };
  const vectorsOf = ({ file, key }: VectorSet) =>
    haveSharedData ? sharedJson<Record<string, Vector[]>>(`tokenizers/vectors/${file}`)[key]! : [];

  it.each(sets.map((set) => ({ ...set, count: vectorsOf(set).length })))(
    'are those of all $count vectors of $key in $file',
    async (set) => {
      const { encode, decode } = bound(await tokenizer());
      const vectors = vectorsOf(set);
      expect(vectors.length).toBeGreaterThan(0);
      for (const { text, ids, decoded } of vectors) {
        expect({ text, ids: Array.from(encode(text, { special: true, addBos: set.addBos })) }).toEqual({
          text,
          ids,
        });
        if (decoded !== undefined) {
          const ours = decode(ids, { skipSpecial: false });
          expect([ours, cleanedUp(ours)]).toContain(decoded);
        }
      }
    },
  );
});

const bound = (tokenizer: Tokenizer) => ({
  encode: tokenizer.encode.bind(tokenizer),
  decode: tokenizer.decode.bind(tokenizer),
});

describe.skipIf(!haveSharedData)(titled('expected ids of a paragraph'), () => {
  it.each([
    ['swift_gpt2_encoded_tokens.json', gpt2Folder, false],
    ['swift_llama_encoded.json', llama2Folder, true],
  ])('are those in %s', async (file, folder, addBos) => {
    const vector = sharedJson<{ text: string; token_ids: number[] }>(`tokenizers/vectors/${file}`);
    const tokenizer = await openTokenizer(await folder());
    const ids = tokenizer.encode(vector.text, { special: true, addBos });
    expect(Array.from(ids)).toEqual(vector.token_ids);
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(vector.text);
  });
});

describe('the demo model', () => {
  const golden = JSON.parse(readFileSync('models/demo/eval/golden.json', 'utf8')) as {
    prompt: string;
    prompt_ids: number[];
    greedy_ids: number[];
    greedy_text: string;
  }[];

  it('gives the ids of its golden prompts, and the text of its golden answers', async () => {
    const tokenizer = await openTokenizer('models/demo');
    expect(golden).toHaveLength(5);
    for (const { prompt, prompt_ids, greedy_ids, greedy_text } of golden) {
      expect(Array.from(tokenizer.encode(prompt, { special: true, addBos: false }))).toEqual(prompt_ids);
      expect(tokenizer.decode(greedy_ids, { skipSpecial: true })).toBe(greedy_text);
    }
  });
});
