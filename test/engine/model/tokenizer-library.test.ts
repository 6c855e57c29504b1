import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { afterAll, describe, expect, it } from 'vitest';
import { openTokenizer } from '../../../engine/index.js';
import { wellFormed } from '../../../engine/model/normalizer.js';
import fc from '../../support/fast-check.js';
import { removeFolders } from './model-folder.js';
import { oddText } from './odd-text.js';
import { llama2Folder, llama3Folder, phi3Folder, qwen2Folder } from './real-tokenizers.js';
import { haveSharedData, titled } from './shared-data.js';

afterAll(removeFolders);

const readJson = async (file: string) => JSON.parse(await readFile(file, 'utf8')) as object;

async function both(folder: string) {
  const config = await readJson(path.join(folder, 'tokenizer_config.json'));
  const library = new LibraryTokenizer(await readJson(path.join(folder, 'tokenizer.json')), {
    ...config,
    clean_up_tokenization_spaces: false,
  });
  return { ours: await openTokenizer(folder), library };
}

const specials = [
  '<s>',
  '</s>',
  '<|end|>',
  '<|im_start|>',
  '<|user|>',
  '<|begin_of_text|>',
  '<|bos|>',
  ' <|end|> ',
];
// Llama 2 looks for its special tokens in the normalized text, with a mark before them; where one stands alone after
// another, the library takes it too, unlike the original (Rust) tokenizers.
const llama2Specials = [' <s> ', ' </s> '];

const textWith = (special: readonly string[]) =>
  fc
    .array(fc.oneof({ weight: 3, arbitrary: oddText }, fc.constantFrom(...special)), { maxLength: 5 })
    .map((parts) => parts.join(''));

const folders: [name: string, folder: () => Promise<string>, available: boolean, specials: string[]][] = [
  ['the demo model', async () => 'models/demo', true, specials],
  ['Llama 2', llama2Folder, haveSharedData, llama2Specials],
  ['Phi-3', phi3Folder, haveSharedData, specials],
  ['Qwen2', qwen2Folder, haveSharedData, specials],
  ['Llama 3', llama3Folder, haveSharedData, specials],
];

describe.each(folders)(
  'the same as @huggingface/tokenizers, with the vocabulary of %s',
  (_name, folder, available, special) => {
    let opened: ReturnType<typeof both> | undefined;
    const tokenizers = () => {
      opened ??= folder().then(both);
      return opened;
    };

    it.skipIf(!available)(titled('encodes any text'), async () => {
      const { ours, library } = await tokenizers();
      fc.assert(
        fc.property(textWith(special), (text) => {
          const expected =
            text === '' ? [] : library.encode(wellFormed(text), { add_special_tokens: false }).ids;
          expect(Array.from(ours.encode(text, { special: true, addBos: false }))).toEqual(expected);
        }),
        { numRuns: 500 },
      );
    });

    it.skipIf(!available)(titled('decodes what text encodes to'), async () => {
      const { ours, library } = await tokenizers();
      fc.assert(
        fc.property(oddText, fc.boolean(), (text, skipSpecial) => {
          const ids = Array.from(ours.encode(text, { special: true, addBos: true }));
          const shown = skipSpecial ? ids.filter((id) => !ours.isSpecial(id)) : ids;
          const expected =
            shown.length === 0 ? '' : library.decode(ids, { skip_special_tokens: skipSpecial });
          expect(ours.decode(ids, { skipSpecial })).toBe(expected);
        }),
        { numRuns: 300 },
      );
    });
  },
);
