import { gunzipSync } from 'node:zlib';
import { charOfByte } from '../../../engine/model/byte-level.js';
import { modelFolder } from './model-folder.js';
import { sharedBytes, sharedJson, sharedText } from './shared-data.js';

/*
 * Real vocabularies as model folders. Those published as tiktoken ranks become `tokenizer.json` as transformers'
 * converter makes it: every split of a token into two tokens is a merge, and whole words are looked up first.
 */

const gpt2Words: Record<string, unknown> = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };

const pattern = (number: string, lineEnds = '[\\r\\n]+') =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${number}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*${lineEnds}|\\s+(?!\\S)|\\s+`;

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
const o200kPattern = [
  `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+${contractions}`,
  `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*${contractions}`,
  '\\p{N}{1,3}',
  ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*',
  '\\s*[\\r\\n]+',
  '\\s+(?!\\S)',
  '\\s+',
].join('|');

const split = (regex: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
  ],
});

const alphabetText = (bytes: Buffer) => Array.from(bytes, (byte) => charOfByte[byte]).join('');

function fromRanks(ranksFile: Buffer): { vocab: Record<string, number>; merges: string[] } {
  const ranks = new Map<string, number>();
  for (const line of ranksFile.toString('ascii').split('\n')) {
    const [token, rank] = line.split(' ');
    if (token && rank) ranks.set(alphabetText(Buffer.from(token, 'base64')), Number(rank));
  }
  const merges: string[] = [];
  // The file is in order of rank, so only a token's own splits are to be sorted.
  for (const token of ranks.keys()) {
    const splits: { left: number; right: number; at: number }[] = [];
    for (let at = 1; at < token.length; at++) {
      const left = ranks.get(token.slice(0, at));
      const right = ranks.get(token.slice(at));
      if (left !== undefined && right !== undefined) splits.push({ left, right, at });
    }
    splits.sort((a, b) => a.left - b.left || a.right - b.right);
    for (const { at } of splits) merges.push(`${token.slice(0, at)} ${token.slice(at)}`);
  }
  return { vocab: Object.fromEntries(ranks), merges };
}

function byteLevelFolder(preTokenizer: object, model: object, rest: object = {}) {
  return modelFolder({
    'tokenizer.json': {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: preTokenizer,
      post_processor: null,
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', ...model },
      ...rest,
    },
    'tokenizer_config.json': { clean_up_tokenization_spaces: false },
  });
}

const ranked = (file: string) => ({ ...fromRanks(sharedBytes(`tokenizers/${file}`)), ignore_merges: true });

export const gpt2Folder = () => byteLevelFolder(gpt2Words, ranked('r50k_base.tiktoken'));

export const cl100kFolder = () =>
  byteLevelFolder(split(pattern('\\p{N}{1,3}', '[\\r\\n]')), ranked('cl100k_base.tiktoken'));

export function o200kFolder() {
  const ranks = fromRanks(gunzipSync(sharedBytes('tokenizers/o200k_base.tiktoken.gz')));
  return byteLevelFolder(split(o200kPattern), { ...ranks, ignore_merges: true });
}

const llama3Special = ['<|begin_of_text|>', '<|end_of_text|>'];

export const llama3Folder = () =>
  byteLevelFolder(split(pattern('\\p{N}{1,3}')), ranked('llama3.tokenizer.model'), {
    added_tokens: llama3Special.map((content, i) => ({
      id: 128_000 + i,
      content,
      special: true,
      normalized: false,
    })),
    post_processor: {
      type: 'Sequence',
      processors: [
        { type: 'ByteLevel', trim_offsets: false },
        {
          type: 'TemplateProcessing',
          single: [
            { SpecialToken: { id: llama3Special[0], type_id: 0 } },
            { Sequence: { id: 'A', type_id: 0 } },
          ],
          special_tokens: { [llama3Special[0]!]: { id: llama3Special[0], ids: [128_000] } },
        },
      ],
    },
  });

export function qwen2Folder() {
  const config = sharedJson<{ added_tokens_decoder: Record<string, object> }>(
    'tokenizers/qwen2.tokenizer_config.json',
  );
  const added = Object.entries(config.added_tokens_decoder).map(([id, token]) => ({
    id: Number(id),
    ...token,
  }));
  const merges = sharedText('tokenizers/qwen2.merges.txt')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#version'));
  return byteLevelFolder(
    split(pattern('\\p{N}')),
    { vocab: sharedJson('tokenizers/qwen2.vocab.json'), merges },
    { normalizer: { type: 'NFC' }, added_tokens: added },
  );
}

/**
 * This copy of Llama 2's `tokenizer.json` has lost its no-break spaces: four pieces and three merges show plain spaces
 * in their place, which SentencePiece vocabularies cannot have.
 */
export function llama2Folder() {
  const json = sharedJson<{ model: { vocab: Record<string, number>; merges: string[] } }>(
    'tokenizers/llama2.tokenizer.json',
  );
  const repaired = (piece: string) => piece.replaceAll(' ', '\u00a0');
  json.model.vocab = Object.fromEntries(
    Object.entries(json.model.vocab).map(([piece, id]) => [repaired(piece), id]),
  );
  json.model.merges = json.model.merges.map((merge) => {
    if (merge.split(' ').length === 2) return merge;
    const middle = merge.length >> 1;
    return `${repaired(merge.slice(0, middle))} ${repaired(merge.slice(middle + 1))}`;
  });
  return modelFolder({
    'tokenizer.json': json,
    'tokenizer_config.json': sharedJson('tokenizers/llama2.tokenizer_config.json'),
  });
}

export const phi3Folder = () =>
  modelFolder({
    'tokenizer.json': sharedText('tokenizers/phi3-mini.tokenizer.json'),
    'tokenizer_config.json': sharedText('tokenizers/phi3-mini.tokenizer_config.json'),
  });
