import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Random } from '../../../loadtest/random.js';
import { llama1b, type ModelShape } from '../../../loadtest/random-model/model-shape.js';
import { makeRandomModel } from '../../../loadtest/random-model/random-model.js';

const shape: ModelShape = {
  ...llama1b,
  layers: 2,
  hidden: 64,
  heads: 4,
  kvHeads: 4,
  headDim: 16,
  ffn: 96,
  vocab: 512,
  contextLength: 256,
  ropeTheta: 10_000,
};

/** Heads that say the same, in the model whose cache is low-rank. They are no neighbours: a conversion must find them. */
export const alikeHeads = [
  [0, 2],
  [1, 3],
];

export interface TinyModelOptions {
  /**
   * Keys of alike heads are multiples of one key by a complex number for each frequency, values are linear maps of one
   * value: half of the cache says all.
   */
  readonly lowRank: boolean;
  readonly biases?: boolean;
  readonly kvHeads?: number;
  /** Two files and an index. */
  readonly sharded?: boolean;
}

/** A random model with multi-head attention, its weights as f32, its tokens bytes. */
export function writeTinyModel(
  folder: string,
  { lowRank, biases = false, sharded = false, kvHeads = shape.kvHeads }: TinyModelOptions,
): void {
  makeRandomModel({ folder, shape, seed: 3, gguf: [] });
  rmSync(path.join(folder, 'model.safetensors'));
  rmSync(path.join(folder, 'random-model.json'));
  const random = new Random(7);
  const tensors: Tensor[] = [];
  const add = (name: string, sizes: number[], values: Float64Array) =>
    tensors.push({ name, shape: sizes, values });
  const normal = (count: number, deviation: number, mean = 0) =>
    Float64Array.from({ length: count }, () => mean + deviation * random.normal());
  const linear = (name: string, outputs: number, inputs: number) => {
    add(`${name}.weight`, [outputs, inputs], normal(outputs * inputs, 1.5 / Math.sqrt(inputs)));
    if (biases && name.includes('self_attn')) add(`${name}.bias`, [outputs], normal(outputs, 0.3));
  };
  const { hidden, heads, headDim, ffn, vocab, layers } = shape;
  add('model.embed_tokens.weight', [vocab, hidden], normal(vocab * hidden, 1));
  for (let layer = 0; layer < layers; layer += 1) {
    const at = `model.layers.${layer}`;
    add(`${at}.input_layernorm.weight`, [hidden], normal(hidden, 0.3, 1));
    linear(`${at}.self_attn.q_proj`, heads * headDim, hidden);
    for (const name of ['k', 'v']) linear(`${at}.self_attn.${name}_proj`, kvHeads * headDim, hidden);
    linear(`${at}.self_attn.o_proj`, hidden, heads * headDim);
    add(`${at}.post_attention_layernorm.weight`, [hidden], normal(hidden, 0.3, 1));
    linear(`${at}.mlp.gate_proj`, ffn, hidden);
    linear(`${at}.mlp.up_proj`, ffn, hidden);
    linear(`${at}.mlp.down_proj`, hidden, ffn);
  }
  add('model.norm.weight', [hidden], normal(hidden, 0.3, 1));
  if (lowRank) {
    for (let layer = 0; layer < layers; layer += 1) {
      // A bias is one more column, of an input that is always 1.
      const of = (name: string) =>
        tensors.filter((tensor) => tensor.name.includes(`.${layer}.self_attn.${name}_proj`));
      shareKeys(of('k'), random);
      shareValues(of('v'), random);
    }
  }
  const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8'));
  writeFileSync(
    path.join(folder, 'config.json'),
    JSON.stringify({
      ...config,
      torch_dtype: 'float32',
      attention_bias: biases,
      num_key_value_heads: kvHeads,
    }),
  );
  if (!sharded) {
    writeFile(path.join(folder, 'model.safetensors'), tensors);
    return;
  }
  const half = tensors.length >> 1;
  const weightMap: Record<string, string> = {};
  for (const [index, part] of [tensors.slice(0, half), tensors.slice(half)].entries()) {
    const name = `model-0000${index + 1}-of-00002.safetensors`;
    writeFile(path.join(folder, name), part);
    for (const tensor of part) weightMap[tensor.name] = name;
  }
  writeFileSync(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
}

interface Tensor {
  readonly name: string;
  readonly shape: number[];
  readonly values: Float64Array;
}

function shareKeys(projection: readonly Tensor[], random: Random): void {
  const { headDim } = shape;
  const half = headDim / 2;
  for (const [first, other] of alikeHeads) {
    for (let pair = 0; pair < half; pair += 1) {
      const [re, im] = [random.normal(), random.normal()];
      eachColumn(projection, (values, at) => {
        const a = values[at(first!, pair)]!;
        const b = values[at(first!, half + pair)]!;
        values[at(other!, pair)] = re * a - im * b;
        values[at(other!, half + pair)] = im * a + re * b;
      });
    }
  }
}

function shareValues(projection: readonly Tensor[], random: Random): void {
  const { headDim } = shape;
  for (const [first, other] of alikeHeads) {
    for (let channel = 0; channel < headDim; channel += 1) {
      const factors = Array.from({ length: headDim }, () => random.normal() / Math.sqrt(headDim));
      eachColumn(projection, (values, at) => {
        values[at(other!, channel)] = factors.reduce(
          (sum, factor, from) => sum + factor * values[at(first!, from)]!,
          0,
        );
      });
    }
  }
}

function eachColumn(
  projection: readonly Tensor[],
  change: (values: Float64Array, at: (head: number, channel: number) => number) => void,
): void {
  for (const { values } of projection) {
    const cols = values.length / (shape.heads * shape.headDim);
    for (let col = 0; col < cols; col += 1) {
      change(values, (head, channel) => (head * shape.headDim + channel) * cols + col);
    }
  }
}

function writeFile(file: string, tensors: readonly Tensor[]): void {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, shape: sizes, values } of tensors) {
    header[name] = { dtype: 'F32', shape: sizes, data_offsets: [offset, offset + 4 * values.length] };
    offset += 4 * values.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const data = tensors.map(({ values }) => Buffer.from(Float32Array.from(values).buffer));
  writeFileSync(file, Buffer.concat([length, json, ...data]));
}
