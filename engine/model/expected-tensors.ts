import { expectedVisionTensors } from './expected-vision-tensors.js';
import { invalidModel, quoted } from './model-files.js';
import type { FloatDtype, ModelSpec, TensorEntry, WeightScales } from './model-spec.js';
import type { Fp8Format } from './quantization.js';
import type { StoredTensor, StoredTensors } from './safetensors.js';

const dtypes: Readonly<Record<string, FloatDtype>> = { BF16: 'bf16', F16: 'f16', F32: 'f32' };

/** Written by some old converters; recomputed here. */
const ignorable = /\.rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$/;

/** Of activations and the KV cache, which are not quantized to fp8 here. */
const ignorableInFp8 = /\.(input_scale|[qkv]_scale)$/;

/** What the names of the decoder's tensors begin with, but for the matrix to logits. */
export function decoderPrefix({ vision }: ModelSpec): string {
  return vision ? 'model.text_model.' : 'model.';
}

/** Names and shapes of all tensors that a decoder of this description has, in Hugging Face's names. */
export function* expectedTensors(spec: ModelSpec): Generator<[name: string, shape: readonly number[]]> {
  const { hidden, heads, kvHeads, headDim, ffn, vocab } = spec;
  const prefix = decoderPrefix(spec);
  yield [`${prefix}embed_tokens.weight`, [vocab, hidden]];
  for (let layer = 0; layer < spec.layers; layer++) {
    const at = `${prefix}layers.${layer}.`;
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
  yield [`${prefix}norm.weight`, [hidden]];
  if (!spec.tiedEmbeddings) yield ['lm_head.weight', [vocab, hidden]];
}

/** The tensors that the model needs. Refuses missing ones, other shapes or dtypes, and those left over. */
export function matchTensors(
  folder: string,
  spec: ModelSpec,
  stored: StoredTensors,
  fp8?: Fp8Format,
): { tensors: TensorEntry[]; visionTensors: TensorEntry[] } {
  const known = new Set<string>();
  const match = (wanted: Iterable<[name: string, shape: readonly number[]]>) =>
    matchNames(folder, wanted, stored, known, fp8);
  const tensors = match(expectedTensors(spec));
  const visionTensors = spec.vision ? match(expectedVisionTensors(spec.vision, spec.hidden)) : [];
  refuseLeftOver(spec, stored, known, fp8);
  return { tensors, visionTensors };
}

/** Adds all names that are the model's to `known`. */
function matchNames(
  folder: string,
  wanted: Iterable<[name: string, shape: readonly number[]]>,
  stored: StoredTensors,
  known: Set<string>,
  fp8?: Fp8Format,
): TensorEntry[] {
  const entries: TensorEntry[] = [];
  for (const [name, shape] of wanted) {
    known.add(name);
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
      known.add(scaleName);
      entries.push({ name, dtype: 'e4m3', shape, file, begin, end, scales });
    } else {
      entries.push({ name, dtype: floatDtype(where, found), shape, file, begin, end });
    }
  }
  return entries;
}

function refuseLeftOver(
  spec: ModelSpec,
  stored: StoredTensors,
  known: ReadonlySet<string>,
  fp8?: Fp8Format,
): void {
  for (const [name, found] of stored.tensors) {
    // A bias or a norm that the description does not know would be left out of the sums without a word.
    if (name.startsWith('model.') && !known.has(name) && !ignorable.test(name)) {
      if (fp8 && ignorableInFp8.test(name)) continue;
      throw invalidModel(
        `${stored.files[found.file]}: tensor ${quoted(name)}`,
        `has no place in a ${spec.family} model of ${spec.layers} layers as config.json describes it`,
      );
    }
  }
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
  const [rows, cols, ...more] = shape;
  if (rows === undefined || cols === undefined || more.length > 0) {
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
