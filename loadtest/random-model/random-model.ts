import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { WeightFormat } from './block-formats.js';
import { writeGguf } from './gguf-writer.js';
import { checkShape, type ModelShape, tensorsOf } from './model-shape.js';
import { writeSafetensors } from './safetensors-writer.js';
import { writeTokenizer, writeTokenizerConfig } from './tokenizer-files.js';
import {
  preprocessorConfig,
  processorConfig,
  visionChatTemplate,
  visionConfig,
  visionTokens,
} from './vision-files.js';
import { byteLevelVocabulary, type Vocabulary } from './vocabulary.js';
import { WeightPool } from './weight-pool.js';

/** Part of the stamp: a folder made by an earlier layout of the weights is made anew. */
const layoutVersion = 1;

export interface RandomModelOptions {
  readonly folder: string;
  readonly shape: ModelShape;
  readonly seed: number;
  /** GGUF files to make beside the checkpoint, of the same weights. */
  readonly gguf: readonly WeightFormat[];
  readonly onProgress?: (line: string) => void;
}

/**
 * A model of a given shape with random weights: a folder that Tandem serves (bf16 safetensors, config, tokenizer) and
 * the same weights as GGUF. What an earlier call with the same shape and seed made is kept.
 */
export function makeRandomModel(options: RandomModelOptions): void {
  const { folder, shape, seed, gguf, onProgress = () => {} } = options;
  checkShape(shape);
  const { vision } = shape;
  if (vision && gguf.length > 0) {
    throw new RangeError('a model that reads images is not written as GGUF: leave out one of them');
  }
  const tensors = tensorsOf(shape);
  const vocabulary = byteLevelVocabulary(shape.vocab, vision ? visionTokens : []);
  const maxCols = Math.max(...tensors.map(({ cols }) => cols));
  const maxRows = Math.max(...tensors.map(({ rows }) => rows));
  let pool: WeightPool | undefined;
  const sharedPool = () => {
    pool ??= new WeightPool({ maxRows, maxCols, seed });
    return pool;
  };

  prepareFolder(folder, JSON.stringify({ layoutVersion, seed, shape }));
  const make = (name: string, write: (file: string) => void) => {
    const file = path.join(folder, name);
    if (existsSync(file)) return;
    onProgress(`writing ${name}`);
    // Under its name only when it is whole.
    write(`${file}.part`);
    renameSync(`${file}.part`, file);
  };
  const makeJson = (name: string, value: unknown) =>
    make(name, (file) => writeFileSync(file, JSON.stringify(value, null, 1)));
  const text = config(shape, vocabulary);
  makeJson('config.json', vision ? visionConfig(shape, vision, vocabulary, text) : text);
  make('tokenizer.json', (file) => writeTokenizer(file, vocabulary));
  make('tokenizer_config.json', (file) =>
    writeTokenizerConfig(file, vocabulary, vision ? visionChatTemplate : undefined),
  );
  if (vision) {
    makeJson('preprocessor_config.json', preprocessorConfig(vision));
    makeJson('processor_config.json', processorConfig(vision));
  }
  make('model.safetensors', (file) => writeSafetensors(file, tensors, sharedPool()));
  for (const format of gguf) {
    make(ggufName(format), (file) =>
      writeGguf(file, { shape, tensors, vocabulary, pool: sharedPool() }, format),
    );
  }
}

export function ggufName(format: WeightFormat): string {
  return `model-${format}.gguf`;
}

/** Empties a folder that holds another random model. Refuses one that holds anything else. */
function prepareFolder(folder: string, stamp: string): void {
  const stampFile = path.join(folder, 'random-model.json');
  if (existsSync(stampFile)) {
    if (readFileSync(stampFile, 'utf8') === stamp) return;
    rmSync(folder, { recursive: true });
  } else if (existsSync(folder)) {
    throw new Error(`${folder} is there and holds no random model: name a new folder`);
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(stampFile, stamp);
}

function config(shape: ModelShape, { bos, eos }: Vocabulary): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    head_dim: shape.headDim,
    vocab_size: shape.vocab,
    max_position_embeddings: shape.contextLength,
    rms_norm_eps: shape.normEps,
    rope_theta: shape.ropeTheta,
    rope_scaling: null,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: shape.tiedEmbeddings,
    torch_dtype: 'bfloat16',
    bos_token_id: bos,
    eos_token_id: eos,
  };
}
