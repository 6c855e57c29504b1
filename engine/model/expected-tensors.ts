import { invalidModel, quoted } from './model-files.js';
import type { FloatDtype, ModelSpec, TensorEntry, WeightScales } from './model-spec.js';
import type { Fp8Format } from './quantization.js';
import type { StoredTensor, StoredTensors } from './safetensors.js';

const dtypes: Readonly<Record<string, FloatDtype>> = { BF16: 'bf16', F16: 'f16', F32: 'f32' };

/** Written by some old converters; recomputed here. */
const ignorable = /\.rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$/;

/** Of activations and the KV cache, which are not quantized to fp8 here. */
const ignorableInFp8 = /\.(input_scale|[qkv]_scale)$/;

/** Names and shapes of all tensors that a model of this description has, in Hugging Face's names. */
export function* expectedTensors(spec: ModelSpec): Generator<[name: string, shape: readonly number[]]> {
  const { hidden, heads, kvHeads, headDim, ffn, vocab } = spec;
  yield ['model.embed_tokens.weight', [vocab, hidden]];
  for (let layer = 0; layer < spec.layers; layer++) {
    const at = `model.layers.${layer}.`;
    const linear = function* (name: string, outputs: number, inputs: number, bias: boolean) {
      yield [`${at}${name}.weight`, [outputs, inputs]] as [string, number[]];
      if (bias) yield [`${at}${name}.bias`, [outputs]] as [string, number[]];
    };
    yield [`${at}input_layernorm.weight`, [hidden]];
    yield* linear('self_attn.q_proj', heads * headDim, hidden, spec.attentionBias);
    yield* linear('self_attn.k_proj', kvHeads * headDim, hidden, spec.attentionBias);
    yield* linear('self_attn.v_proj', kvHeads * headDim, hidden, spec.attentionBias);
    yield* linear('self_attn.o_proj', hidden, heads * headDim, spec.outputBias);
    if (spec.qkNorm) {
      yield [`${at}self_attn.q_norm.weight`, [headDim]];
      yield [`${at}self_attn.k_norm.weight`, [headDim]];
    }
    yield [`${at}post_attention_layernorm.weight`, [hidden]];
    yield* linear('mlp.gate_proj', ffn, hidden, spec.mlpBias);
    yield* linear('mlp.up_proj', ffn, hidden, spec.mlpBias);
    yield* linear('mlp.down_proj', hidden, ffn, spec.mlpBias);
  }
  yield ['model.norm.weight', [hidden]];
  if (!spec.tiedEmbeddings) yield ['lm_head.weight', [vocab, hidden]];
}

/** The tensors that the model needs. Refuses missing ones, other shapes or dtypes, and those left over. */
export function matchTensors(
  folder: string,
  spec: ModelSpec,
  stored: StoredTensors,
  fp8?: Fp8Format,
): TensorEntry[] {
  const entries: TensorEntry[] = [];
  const expected = new Set<string>();
  for (const [name, shape] of expectedTensors(spec)) {
    expected.add(name);
    const found = stored.tensors.get(name);
    if (!found) {
      throw invalidModel(
        folder,
        `tensor ${name} of shape [${shape.join(', ')}] is missing from ${stored.files.length} safetensors file(s)`,
      );
    }
    const where = `${stored.files[found.file]!}: tensor ${name}`;
    checkShape(where, found, shape);
    const { file, begin, end } = found;
    if (fp8 && found.dtype === 'F8_E4M3') {
      const [scaleName, scales] = scalesOf(where, name, shape, stored, fp8);
      expected.add(scaleName);
      entries.push({ name, dtype: 'e4m3', shape, file, begin, end, scales });
    } else {
      entries.push({ name, dtype: floatDtype(where, found), shape, file, begin, end });
    }
  }
  for (const [name, found] of stored.tensors) {
    // A bias or a norm that the description does not know would be left out of the sums without a word.
    if (name.startsWith('model.') && !expected.has(name) && !ignorable.test(name)) {
      if (fp8 && ignorableInFp8.test(name)) continue;
      throw invalidModel(
        `${stored.files[found.file]}: tensor ${quoted(name)}`,
        `has no place in a ${spec.family} model of ${spec.layers} layers as config.json describes it`,
      );
    }
  }
  return entries;
}

function checkShape(where: string, found: StoredTensor, shape: readonly number[]): void {
  if (found.shape.length !== shape.length || found.shape.some((dimension, i) => dimension !== shape[i])) {
    throw invalidModel(
      where,
      `has the shape [${found.shape.join(', ')}]; config.json asks for [${shape.join(', ')}]`,
    );
  }
}

function floatDtype(where: string, found: StoredTensor): FloatDtype {
  const dtype = dtypes[found.dtype];
  if (!dtype) {
    throw invalidModel(
      where,
      `has the dtype ${found.dtype}; supported are ${Object.keys(dtypes).join(', ')}`,
    );
  }
  return dtype;
}

/** The scales of a matrix in fp8, and their tensor's name. Both names in use mean a factor, not its inverse. */
function scalesOf(
  where: string,
  name: string,
  shape: readonly number[],
  stored: StoredTensors,
  { block }: Fp8Format,
): [name: string, scales: WeightScales] {
  const [rows, cols] = shape;
  if (rows === undefined || cols === undefined) {
    throw invalidModel(where, 'is in fp8, which only matrices may be');
  }
  const names = [`${name}_scale`, `${name}_scale_inv`];
  const scaleName = names.find((candidate) => stored.tensors.has(candidate));
  if (scaleName === undefined) throw invalidModel(where, `is in fp8, and ${names.join(' or ')} is missing`);
  const found = stored.tensors.get(scaleName)!;
  const { file, begin, end } = found;
  const scaleWhere = `${stored.files[file]!}: tensor ${scaleName}`;
  const blocks: (readonly [scales: readonly number[], blockRows: number, blockCols: number])[] = [
    [[], rows, cols],
    [[1], rows, cols],
    [[1, 1], rows, cols],
    [[rows], 1, cols],
    [[rows, 1], 1, cols],
    [[Math.ceil(rows / block[0]), Math.ceil(cols / block[1])], ...block],
  ];
  const fitting = blocks.find(([scales]) => String(scales) === String(found.shape));
  if (!fitting) {
    const shapes = blocks.slice(3).map(([scales]) => `[${scales.join(', ')}]`);
    throw invalidModel(
      scaleWhere,
      `has the shape [${found.shape.join(', ')}]; a matrix of [${rows}, ${cols}] has one scale, or scales of ` +
        `${shapes.join(' or ')} in blocks of ${block.join(' x ')}`,
    );
  }
  const [, blockRows, blockCols] = fitting;
  return [scaleName, { dtype: floatDtype(scaleWhere, found), file, begin, end, blockRows, blockCols }];
}
