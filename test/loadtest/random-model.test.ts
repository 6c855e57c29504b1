import { readFileSync, statSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Checkpoint, openTokenizer, readCheckpoint } from '../../engine/index.js';
import { fromF16, toBf16, toF16 } from '../../engine/model/number-formats.js';
import { llama1b, type ModelShape } from '../../loadtest/random-model/model-shape.js';
import { makeRandomModel } from '../../loadtest/random-model/random-model.js';
import { Folder } from '../scripts/support.js';
import { makeVisionModel, tinyVisionShape } from '../support/vision-model.js';
import { bf16, type GgufFile, ggmlTypes, readGguf } from './gguf-file.js';

const shape: ModelShape = {
  ...llama1b,
  layers: 2,
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  ffn: 96,
  vocab: 600,
};

/** GGUF's name for each of Hugging Face's. */
function ggufName(name: string): string {
  return name
    .replace('model.layers.', 'blk.')
    .replace('self_attn.o_proj', 'attn_output')
    .replace(/self_attn\.([qkv])_proj/, 'attn_$1')
    .replace(/mlp\.(gate|up|down)_proj/, 'ffn_$1')
    .replace('input_layernorm', 'attn_norm')
    .replace('post_attention_layernorm', 'ffn_norm')
    .replace('model.embed_tokens', 'token_embd')
    .replace('model.norm', 'output_norm');
}

/** Where llama.cpp's conversion (`LlamaModel.permute`) puts row `row` of a query or key matrix. */
function ggufRow(row: number, headDim: number): number {
  const head = Math.floor(row / headDim);
  const within = row % headDim;
  const half = headDim / 2;
  return head * headDim + (within % half) * 2 + Math.floor(within / half);
}

describe('a random model', () => {
  const folder = new Folder();
  let checkpoint: Checkpoint;
  beforeAll(async () => {
    makeRandomModel({ folder: folder.at('model'), shape, seed: 5, gguf: ['bf16', 'q8_0', 'q4_0'] });
    checkpoint = await readCheckpoint(folder.at('model'));
  });
  afterAll(() => folder.close());

  const file = (name: string) => folder.at(`model/${name}`);
  /** Values of a safetensors tensor. */
  const stored = ({ file: index, begin, end }: Checkpoint['tensors'][number]): Float64Array => {
    const bytes = readFileSync(checkpoint.files[index]!).subarray(begin, end);
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => bf16(bytes.readUInt16LE(2 * i)));
  };

  it('is a checkpoint of its shape that the engine reads, with a tokenizer of its size', async () => {
    const { layers, hidden, heads, kvHeads, headDim, ffn, vocab } = shape;
    expect(checkpoint.spec).toMatchObject({ layers, hidden, heads, kvHeads, headDim, ffn, vocab });
    const tokenizer = await openTokenizer(file(''));
    expect(tokenizer.vocabSize).toBe(vocab);
    const text = 'Straße 🙂\n';
    const ids = tokenizer.encode(text, { special: false, addBos: false });
    expect(ids.every((id) => id < 256)).toBe(true);
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(text);
  });

  it('has an output matrix of its own where embeddings are not tied', async () => {
    const untied = { ...shape, tiedEmbeddings: false };
    makeRandomModel({ folder: folder.at('untied'), shape: untied, seed: 5, gguf: ['q8_0'] });
    const { spec, tensors } = await readCheckpoint(folder.at('untied'));
    expect(spec.tiedEmbeddings).toBe(false);
    expect(tensors.find(({ name }) => name === 'lm_head.weight')?.shape).toEqual([shape.vocab, shape.hidden]);
    const gguf = readGguf(folder.at('untied/model-q8_0.gguf'));
    expect(gguf.tensors.get('output.weight')).toBeDefined();
  });

  it('has weights like those of trained models, no two rows alike', () => {
    for (const tensor of checkpoint.tensors) {
      const values = stored(tensor);
      const [rows, cols = 1] = tensor.shape as [number, number?];
      if (tensor.shape.length === 1) {
        expect(Math.min(...values)).toBeGreaterThan(0.4);
        continue;
      }
      const deviation = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
      expect(Math.abs(deviation - 0.02)).toBeLessThan(0.002);
      const texts = Array.from({ length: rows }, (_, row) =>
        values.slice(row * cols, (row + 1) * cols).join(),
      );
      expect(new Set(texts).size).toBe(rows);
    }
  });

  /** For each block of 32 of a matrix: the largest error against the checkpoint, and the largest weight. */
  function blockErrors(gguf: GgufFile, type: number): { error: number; largest: number }[] {
    const blocks: { error: number; largest: number }[] = [];
    expect(gguf.tensors.size).toBe(checkpoint.tensors.length);
    for (const tensor of checkpoint.tensors) {
      const found = gguf.tensors.get(ggufName(tensor.name))!;
      expect(found.shape, tensor.name).toEqual(tensor.shape);
      const expected = stored(tensor);
      if (tensor.shape.length === 1) {
        expect(found.type).toBe(ggmlTypes.f32);
        expect(found.values).toEqual(expected);
        continue;
      }
      expect(found.type).toBe(type);
      const [rows, cols] = tensor.shape as [number, number];
      const rotated = /[qk]_proj/.test(tensor.name);
      for (let row = 0; row < rows; row += 1) {
        const theirs = (rotated ? ggufRow(row, shape.headDim) : row) * cols;
        for (let col = 0; col < cols; col += 32) {
          const ours = expected.subarray(row * cols + col, row * cols + col + 32);
          const errors = ours.map((value, i) => Math.abs(value - found.values[theirs + col + i]!));
          blocks.push({ error: Math.max(...errors), largest: Math.max(...ours.map(Math.abs)) });
        }
      }
    }
    return blocks;
  }

  it('has exactly the same weights in GGUF as bf16', () => {
    const blocks = blockErrors(readGguf(file('model-bf16.gguf')), ggmlTypes.bf16);
    expect(Math.max(...blocks.map(({ error }) => error))).toBe(0);
  });

  it('has the same weights in GGUF as Q8_0, to half a level of each block', () => {
    // A level is largest / 127; the scale is rounded to a half, of relative error 2^-11.
    for (const { error, largest } of blockErrors(readGguf(file('model-q8_0.gguf')), ggmlTypes.q8_0)) {
      expect(error).toBeLessThanOrEqual(largest * (0.5 / 127 + 2 ** -11));
    }
  });

  it('has the same weights in GGUF as Q4_0, to a level of each block', () => {
    // A level is largest / 8, and half of one the error; the end without a code of its own is off by a whole one.
    const blocks = blockErrors(readGguf(file('model-q4_0.gguf')), ggmlTypes.q4_0);
    for (const { error, largest } of blocks) expect(error).toBeLessThanOrEqual(largest * (1 / 8 + 2 ** -11));
    const mean = blocks.reduce((sum, { error, largest }) => sum + error / largest, 0) / blocks.length;
    expect(mean).toBeLessThan(0.08);
  });

  it('says in GGUF what llama.cpp needs to know', () => {
    const { metadata } = readGguf(file('model-q8_0.gguf'));
    expect(metadata).toMatchObject({
      'general.architecture': 'llama',
      'llama.block_count': 2,
      'llama.embedding_length': 64,
      'llama.attention.head_count_kv': 2,
      'llama.rope.freq_base': 500_000,
      'llama.vocab_size': 600,
    });
    expect((metadata['tokenizer.ggml.tokens'] as string[]).length).toBe(600);
  });

  it('is kept by a second call with the same shape and seed, and made anew with another', () => {
    const made = statSync(file('model.safetensors')).mtimeMs;
    const before = readFileSync(file('model.safetensors'));
    const lines: string[] = [];
    const make = (seed: number) =>
      makeRandomModel({ folder: file(''), shape, seed, gguf: [], onProgress: (line) => lines.push(line) });
    make(5);
    expect(lines).toEqual([]);
    expect(statSync(file('model.safetensors')).mtimeMs).toBe(made);
    make(6);
    expect(lines).toContain('writing model.safetensors');
    expect(readFileSync(file('model.safetensors')).equals(before)).toBe(false);
  });

  it('reads images where its shape has a vision tower, with tokens to write around them', async () => {
    makeVisionModel(folder.at('vision'));
    const { spec, tensors, visionTensors } = await readCheckpoint(folder.at('vision'));
    expect(spec).toMatchObject({ family: 'idefics3', layers: 2, hidden: 64, vision: { tokensPerTile: 16 } });
    expect(tensors.map(({ name }) => name)).toContain('model.text_model.layers.1.mlp.up_proj.weight');
    expect(visionTensors).toHaveLength(3 + 2 * 16 + 2 + 1);
    const tokenizer = await openTokenizer(folder.at('vision'));
    const text = '<image><fake_token_around_image><global-img><row_6_col_6><end_of_utterance>';
    const ids = tokenizer.encode(text, { special: true, addBos: false });
    expect(ids).toHaveLength(5);
    expect(ids[0]).toBe(spec.vision!.imageTokenId);
    const gguf = () =>
      makeRandomModel({ folder: folder.at('gguf'), shape: tinyVisionShape, seed: 1, gguf: ['bf16'] });
    expect(gguf).toThrow('not written as GGUF');
    const { vision } = tinyVisionShape;
    const odd = { ...tinyVisionShape, vision: { ...vision!, scaleFactor: 3 } };
    expect(() => makeRandomModel({ folder: folder.at('odd'), shape: odd, seed: 1, gguf: [] })).toThrow(
      'scaleFactor is 3',
    );
  });

  it('refuses a folder that holds something else, and shapes that do not fit', () => {
    folder.write('mine/notes.txt', 'keep');
    const make = (name: string, over: Partial<ModelShape> = {}) =>
      makeRandomModel({ folder: folder.at(name), shape: { ...shape, ...over }, seed: 1, gguf: [] });
    expect(() => make('mine')).toThrow('is there and holds no random model');
    expect(() => make('new', { hidden: 65 })).toThrow('hidden is 65: expected a multiple of 32');
    expect(() => make('new', { kvHeads: 3 })).toThrow('heads (4) is no multiple of kvHeads (3)');
    expect(() => make('new', { vocab: 100 })).toThrow('vocab is 100');
  });
});

describe('number formats', () => {
  it('keep every half, and round to the nearest', () => {
    const finite = Array.from({ length: 0x7c00 }, (_, bits) => [bits, bits | 0x8000]).flat();
    expect(finite.map((bits) => toF16(fromF16(bits)))).toEqual(finite);
    expect(fromF16(toF16(1 + 2 ** -11))).toBe(1); // half-way: to even
    expect(fromF16(toF16(1 + 3 * 2 ** -11))).toBe(1 + 2 ** -9);
    expect(fromF16(toF16(70_000))).toBe(Number.POSITIVE_INFINITY);
  });

  it('round bfloat16 half-way cases to even', () => {
    expect(bf16(toBf16(1 + 2 ** -8))).toBe(1);
    expect(bf16(toBf16(1 + 3 * 2 ** -8))).toBe(1 + 2 ** -6);
    expect(bf16(toBf16(-0.1))).toBeCloseTo(-0.1, 3);
  });
});
