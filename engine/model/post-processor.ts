import { invalidModel, quoted } from './model-files.js';
import { type Component, isRecord, type TokenizerFiles, tokenContent } from './tokenizer-files.js';

/** Ids put around a text when `addBos` asks for it. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** These classes of transformers put a bos unless their config says no, whatever `tokenizer.json` has. */
const bosByDefault = /^(Code)?LlamaTokenizer(Fast)?$/;

/**
 * What `tokenizer.json`'s post-processor puts around a single text, changed by `add_bos_token` and `add_eos_token` of
 * `tokenizer_config.json` as transformers does.
 */
export function surroundings(
  files: TokenizerFiles,
  idOf: (content: string) => number | undefined,
): Surroundings {
  const fromFile = ofProcessor(files, files.postProcessor, idOf);
  const { config } = files;
  const tokenOf = (key: string) => {
    const content = tokenContent(config[key]);
    return content === undefined ? undefined : idOf(content);
  };
  const bos = tokenOf('bos_token');
  const eos = tokenOf('eos_token');
  const defaultsToBos =
    typeof config.tokenizer_class === 'string' && bosByDefault.test(config.tokenizer_class);
  const addBos = config.add_bos_token ?? (defaultsToBos ? true : undefined);
  return {
    before: bos === undefined ? fromFile.before : withToken(fromFile.before, bos, addBos, 'first'),
    after: eos === undefined ? fromFile.after : withToken(fromFile.after, eos, config.add_eos_token, 'last'),
  };
}

function withToken(
  ids: readonly number[],
  id: number,
  wanted: unknown,
  place: 'first' | 'last',
): readonly number[] {
  if (typeof wanted !== 'boolean' || ids.includes(id) === wanted) return ids;
  if (!wanted) return ids.filter((other) => other !== id);
  return place === 'first' ? [id, ...ids] : [...ids, id];
}

function ofProcessor(
  files: TokenizerFiles,
  processor: Component | null,
  idOf: (content: string) => number | undefined,
): Surroundings {
  const none: Surroundings = { before: [], after: [] };
  switch (processor?.type) {
    case undefined:
    case 'ByteLevel':
      return none;
    case 'Sequence': {
      const parts = Array.isArray(processor.processors) ? (processor.processors as Component[]) : [];
      return parts
        .map((part) => ofProcessor(files, part, idOf))
        .reduce(
          (inner, outer) => ({
            before: [...outer.before, ...inner.before],
            after: [...inner.after, ...outer.after],
          }),
          none,
        );
    }
    case 'TemplateProcessing':
      return ofTemplate(files, processor);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [pairId(files, processor.cls)], after: [pairId(files, processor.sep)] };
    default:
      throw invalidModel(files.file, `post_processor: the type ${quoted(processor?.type)} is not supported`);
  }
}

function ofTemplate(files: TokenizerFiles, processor: Component): Surroundings {
  const before: number[] = [];
  const after: number[] = [];
  let into = before;
  const tokens = isRecord(processor.special_tokens) ? processor.special_tokens : {};
  for (const item of Array.isArray(processor.single) ? (processor.single as unknown[]) : []) {
    if (!isRecord(item)) throw invalidModel(files.file, 'post_processor.single: expected objects');
    if ('Sequence' in item) {
      into = after;
      continue;
    }
    const name = isRecord(item.SpecialToken) ? item.SpecialToken.id : undefined;
    const token = typeof name === 'string' && Object.hasOwn(tokens, name) ? tokens[name] : undefined;
    const ids = isRecord(token) ? token.ids : undefined;
    if (!Array.isArray(ids) || !ids.every((id) => Number.isInteger(id) && id >= 0)) {
      throw invalidModel(files.file, `post_processor: no ids for the special token ${quoted(name)}`);
    }
    into.push(...(ids as number[]));
  }
  return { before, after };
}

/** ["<s>", 0] */
function pairId(files: TokenizerFiles, pair: unknown): number {
  const id: unknown = Array.isArray(pair) ? pair[1] : undefined;
  if (typeof id !== 'number')
    throw invalidModel(files.file, `post_processor: expected [token, id], found ${quoted(pair)}`);
  return id;
}
