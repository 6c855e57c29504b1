import { invalidModel, quoted } from './model-files.js';
import type { ModelSpec, TensorEntry } from './model-spec.js';
import type { StoredTensor, StoredTensors } from './safetensors.js';

const dtypes: Readonly<Record<string, TensorEntry['dtype']>> = { BF16: 'bf16', F16: 'f16', F32: 'f32' };

/** Written by some old converters; recomputed here. */
const ignorable = /\.rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$/;

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
export function matchTensors(folder: string, spec: ModelSpec, stored: StoredTensors): TensorEntry[] {
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
    entries.push({
      name,
      dtype: checkedDtype(stored.files[found.file]!, found, shape),
      shape,
      file: found.file,
      begin: found.begin,
      end: found.end,
    });
  }
  for (const [name, found] of stored.tensors) {
    // A bias or a norm that the description does not know would be left out of the sums without a word.
    if (name.startsWith('model.') && !expected.has(name) && !ignorable.test(name)) {
      throw invalidModel(
        `${stored.files[found.file]}: tensor ${quoted(name)}`,
        `has no place in a ${spec.family} model of ${spec.layers} layers as config.json describes it`,
      );
    }
  }
  return entries;
}

function checkedDtype(file: string, found: StoredTensor, shape: readonly number[]): TensorEntry['dtype'] {
  const where = `${file}: tensor ${found.name}`;
  if (found.shape.length !== shape.length || found.shape.some((dimension, i) => dimension !== shape[i])) {
    throw invalidModel(
      where,
      `has the shape [${found.shape.join(', ')}]; config.json asks for [${shape.join(', ')}]`,
    );
  }
  const dtype = dtypes[found.dtype];
  if (!dtype) {
    throw invalidModel(
      where,
      `has the dtype ${found.dtype}; supported are ${Object.keys(dtypes).join(', ')}`,
    );
  }
  return dtype;
}
