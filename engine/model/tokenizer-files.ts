import path from 'node:path';
import { fileExists, invalidModel, quoted, readJsonIfThere, requireFolder } from './model-files.js';

/** A normalizer, pre-tokenizer, post-processor or decoder of `tokenizer.json`. */
export interface Component {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Steers the model; text cannot forge it and readers do not see it. */
  readonly special: boolean;
  /** Takes the white space before it, or after it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Only where no letter or digit touches it. */
  readonly singleWord: boolean;
  /** Looked for in the normalized text instead of the raw one. */
  readonly normalized: boolean;
}

export interface TokenizerFiles {
  /** Path of `tokenizer.json`, for messages. */
  readonly file: string;
  /** `tokenizer.json` as it is, for the general tokenizer. */
  readonly json: Readonly<Record<string, unknown>>;
  /** `tokenizer_config.json`; {} if absent. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly model: Component;
  readonly normalizer: Component | null;
  readonly preTokenizer: Component | null;
  readonly postProcessor: Component | null;
  readonly decoder: Component | null;
  readonly addedTokens: readonly AddedToken[];
}

const maxTokenizerBytes = 256 * 1024 * 1024;
const maxConfigBytes = 16 * 1024 * 1024;
/** Ids index tables, so a wild one must not make a table of gigabytes. */
export const maxTokenId = 1 << 22;
const maxAddedTokens = 1 << 17;

export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  await requireFolder(folder);
  const file = path.resolve(folder, 'tokenizer.json');
  const json = await readJsonIfThere(file, maxTokenizerBytes);
  if (json === undefined) throw await noTokenizer(folder);
  if (!isRecord(json)) throw invalidModel(file, 'expected a JSON object');
  const model = component(file, json, 'model');
  // Old files name the model's kind by its fields alone.
  const kind = model?.type ?? (model && 'merges' in model ? 'BPE' : undefined);
  if (!model || typeof kind !== 'string') throw invalidModel(file, 'model: expected an object with a "type"');
  const config = await readTokenizerConfig(folder);
  return {
    file,
    json,
    config,
    model: { ...model, type: kind },
    normalizer: component(file, json, 'normalizer'),
    preTokenizer: component(file, json, 'pre_tokenizer'),
    postProcessor: component(file, json, 'post_processor'),
    decoder: component(file, json, 'decoder'),
    addedTokens: addedTokens(file, json.added_tokens, config.added_tokens_decoder),
  };
}

export async function readTokenizerConfig(folder: string): Promise<Record<string, unknown>> {
  const file = path.resolve(folder, 'tokenizer_config.json');
  const config = (await readJsonIfThere(file, maxConfigBytes)) ?? {};
  if (!isRecord(config)) throw invalidModel(file, 'expected a JSON object');
  return config;
}

/** `bos_token` and its like: a string, or an object with `content`. */
export function tokenContent(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const content = isRecord(value) ? value.content : undefined;
  return typeof content === 'string' ? content : undefined;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function component(file: string, json: Record<string, unknown>, key: string): Component | null {
  const value = json[key];
  if (value === undefined || value === null) return null;
  if (!isRecord(value) || (key !== 'model' && typeof value.type !== 'string')) {
    throw invalidModel(file, `${key}: expected null or an object with a "type"`);
  }
  return value as Component;
}

/** Those of `tokenizer.json`, then those that only `tokenizer_config.json` has, which transformers adds too. */
function addedTokens(file: string, list: unknown, byId: unknown): AddedToken[] {
  const entries: unknown[] = Array.isArray(list) ? [...list] : [];
  const known = new Set(entries.map((entry) => (isRecord(entry) ? entry.content : undefined)));
  if (isRecord(byId)) {
    for (const [id, entry] of Object.entries(byId)) {
      if (isRecord(entry) && !known.has(entry.content)) entries.push({ ...entry, id: Number(id) });
    }
  }
  if (entries.length > maxAddedTokens) {
    throw invalidModel(file, `has ${entries.length} added tokens; at most ${maxAddedTokens} are expected`);
  }
  return entries.map((entry) => addedToken(file, entry));
}

function addedToken(file: string, entry: unknown): AddedToken {
  const { id, content, special, lstrip, rstrip, single_word, normalized } = isRecord(entry) ? entry : {};
  if (typeof content !== 'string' || !isTokenId(id)) {
    throw invalidModel(
      file,
      `added_tokens: expected an id below ${maxTokenId} and a content, found ${quoted(entry)}`,
    );
  }
  return {
    id,
    content,
    special: special === true,
    lstrip: lstrip === true,
    rstrip: rstrip === true,
    singleWord: single_word === true,
    normalized: normalized === undefined ? special !== true : normalized === true,
  };
}

export function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < maxTokenId;
}

async function noTokenizer(folder: string) {
  for (const name of [
    'tokenizer.model',
    'tokenizer.model.v3',
    'tekken.json',
    'vocab.json',
    'qwen.tiktoken',
  ]) {
    if (await fileExists(path.join(folder, name))) {
      return invalidModel(
        folder,
        `has ${name} but no tokenizer.json; make one with transformers: ` +
          "AutoTokenizer.from_pretrained('FOLDER', use_fast=True).save_pretrained('FOLDER')",
      );
    }
  }
  return invalidModel(folder, 'tokenizer.json is missing');
}
