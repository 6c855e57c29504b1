import { blockBytes, blockValues, type WeightFormat } from './block-formats.js';
import { ChunkedFile } from './chunked-file.js';
import { type GgufTensorInfo, type GgufValue, ggufAlignment, ggufHeader, padding } from './gguf-metadata.js';
import { type ModelShape, rotatedRow, type TensorPlan } from './model-shape.js';
import type { Vocabulary } from './vocabulary.js';
import type { WeightPool } from './weight-pool.js';

/** ids of `ggml_type` */
const tensorTypes = { f32: 0, q4_0: 2, q8_0: 8, bf16: 30 } as const;

/** ids of `llama_ftype` */
const fileTypes = { q4_0: 2, q8_0: 7, bf16: 32 } as const;

/** `LLAMA_TOKEN_TYPE_NORMAL` and `_CONTROL` */
const tokenTypes = { normal: 1, control: 3 } as const;

/** Writes the model as llama.cpp reads it: matrices in `format`, norms in f32; without an output matrix the embedding is used for it. */
export function writeGguf(
  file: string,
  model: { shape: ModelShape; tensors: readonly TensorPlan[]; vocabulary: Vocabulary; pool: WeightPool },
  format: WeightFormat,
): void {
  const { shape, tensors, vocabulary, pool } = model;
  const output = new ChunkedFile(file);
  try {
    output.write(ggufHeader(metadata(shape, vocabulary, format), tensorInfos(tensors, format)));
    for (const [index, plan] of tensors.entries()) {
      if (plan.kind === 'norm') {
        const norm = pool.norm(index, plan.cols);
        output.write(new Uint8Array(norm.buffer, norm.byteOffset, norm.byteLength));
      } else {
        for (let row = 0; row < plan.rows; row += 1) {
          output.write(pool.encodedRow(index, rotatedRow(plan, row), plan.cols, format));
        }
      }
      output.align(ggufAlignment);
    }
  } finally {
    output.close();
  }
}

function tensorInfos(tensors: readonly TensorPlan[], format: WeightFormat): GgufTensorInfo[] {
  let offset = 0;
  return tensors.map(({ ggufName, kind, rows, cols }) => {
    const isNorm = kind === 'norm';
    const bytes = isNorm ? cols * 4 : ((rows * cols) / blockValues) * blockBytes[format];
    const info = {
      name: ggufName,
      dimensions: isNorm ? [cols] : [cols, rows],
      type: isNorm ? tensorTypes.f32 : tensorTypes[format],
      offset,
    };
    offset += bytes + padding(bytes);
    return info;
  });
}

function metadata(
  shape: ModelShape,
  vocabulary: Vocabulary,
  format: WeightFormat,
): Record<string, GgufValue> {
  const u32 = (value: number): GgufValue => ({ type: 'u32', value });
  const f32 = (value: number): GgufValue => ({ type: 'f32', value });
  const string = (value: string): GgufValue => ({ type: 'string', value });
  const { tokens, bos, eos } = vocabulary;
  return {
    'general.architecture': string('llama'),
    'general.name': string('random weights'),
    'general.file_type': u32(fileTypes[format]),
    'general.quantization_version': u32(2),
    'general.alignment': u32(ggufAlignment),
    'llama.block_count': u32(shape.layers),
    'llama.context_length': u32(shape.contextLength),
    'llama.embedding_length': u32(shape.hidden),
    'llama.feed_forward_length': u32(shape.ffn),
    'llama.attention.head_count': u32(shape.heads),
    'llama.attention.head_count_kv': u32(shape.kvHeads),
    'llama.attention.key_length': u32(shape.headDim),
    'llama.attention.value_length': u32(shape.headDim),
    'llama.attention.layer_norm_rms_epsilon': f32(shape.normEps),
    'llama.rope.dimension_count': u32(shape.headDim),
    'llama.rope.freq_base': f32(shape.ropeTheta),
    'llama.vocab_size': u32(shape.vocab),
    'tokenizer.ggml.model': string('gpt2'),
    'tokenizer.ggml.pre': string('llama-bpe'),
    'tokenizer.ggml.tokens': { type: 'strings', value: tokens },
    'tokenizer.ggml.token_type': {
      type: 'i32s',
      value: tokens.map((_, id) => (id === bos || id === eos ? tokenTypes.control : tokenTypes.normal)),
    },
    // llama.cpp refuses a gpt2 vocabulary without merges; this one makes a token that is there.
    'tokenizer.ggml.merges': { type: 'strings', value: ['Ġ aa'] },
    'tokenizer.ggml.bos_token_id': u32(bos),
    'tokenizer.ggml.eos_token_id': u32(eos),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: false },
  };
}
