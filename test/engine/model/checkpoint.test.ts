import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { WeightReader } from '../../../engine/convert/weight-reader.js';
import { readCheckpoint } from '../../../engine/index.js';
import { modelSpec } from '../../../engine/model/config.js';
import { expectedTensors } from '../../../engine/model/expected-tensors.js';
import {
  headerOf,
  modelFolder,
  refusal,
  removeFolders,
  safetensorsFile,
  tinyConfig,
} from './model-folder.js';

afterAll(removeFolders);

type Tensors = [name: string, shape: readonly number[]][];

const tensorsOf = (config: object): Tensors => [...expectedTensors(modelSpec('config.json', config))];

function folderWith(config: object, tensors: Tensors, dtype = 'BF16') {
  const { header, dataBytes } = headerOf(tensors, dtype);
  return modelFolder({ 'config.json': config, 'model.safetensors': safetensorsFile(header, dataBytes) });
}

describe('checkpoint', () => {
  it('reads the demo model', async () => {
    const folder = path.resolve('models/demo');
    const checkpoint = await readCheckpoint(folder);
    expect(checkpoint.folder).toBe(folder);
    expect(checkpoint.spec).toMatchObject({ family: 'llama', layers: 6, hidden: 256, heads: 4, headDim: 64 });
    expect(checkpoint.tensors).toHaveLength(1 + 6 * 9 + 1);
    const { size } = await (await import('node:fs/promises')).stat(checkpoint.files[0]!);
    expect(Math.max(...checkpoint.tensors.map((tensor) => tensor.end))).toBe(size);
  });

  it('lists the tensors by name, with the file and the bytes', async () => {
    const folder = await folderWith(tinyConfig, tensorsOf(tinyConfig));
    const { tensors, files } = await readCheckpoint(folder);
    expect(files).toEqual([path.join(folder, 'model.safetensors')]);
    const q = tensors.find((tensor) => tensor.name === 'model.layers.1.self_attn.q_proj.weight');
    expect(q).toMatchObject({ dtype: 'bf16', shape: [8, 8], file: 0 });
    expect(q!.end - q!.begin).toBe(128);
    expect((await readFile(files[0]!)).length).toBeGreaterThanOrEqual(q!.end);
  });

  it.each([
    ['a tied llama', tinyConfig, ['lm_head.weight', 'q_norm', '.bias'], ['o_proj.weight']],
    [
      'an untied llama',
      { ...tinyConfig, tie_word_embeddings: false },
      ['q_norm', '.bias'],
      ['lm_head.weight'],
    ],
    [
      'llama with biases',
      { ...tinyConfig, attention_bias: true, mlp_bias: true },
      [],
      ['o_proj.bias', 'down_proj.bias'],
    ],
    [
      'qwen2',
      { ...tinyConfig, model_type: 'qwen2', architectures: undefined },
      ['o_proj.bias', 'mlp.up_proj.bias'],
      ['v_proj.bias'],
    ],
    [
      'qwen3',
      { ...tinyConfig, model_type: 'qwen3', architectures: undefined },
      ['.bias'],
      ['q_norm.weight', 'k_norm.weight'],
    ],
  ])('expects the tensors of %s', (_what, config, without, with_) => {
    const names = tensorsOf(JSON.parse(JSON.stringify(config))).map(([name]) => name);
    for (const part of without) expect(names.filter((name) => name.includes(part))).toEqual([]);
    for (const part of with_) expect(names.some((name) => name.includes(part))).toBe(true);
  });

  it('leaves out tensors that old converters wrote, and the head of a tied model', async () => {
    const extra: Tensors = [
      ['model.layers.0.self_attn.rotary_emb.inv_freq', [2]],
      ['lm_head.weight', [16, 8]],
    ];
    const { tensors } = await readCheckpoint(
      await folderWith(tinyConfig, [...tensorsOf(tinyConfig), ...extra]),
    );
    expect(tensors).toHaveLength(tensorsOf(tinyConfig).length);
  });

  it('names the tensor that is missing', async () => {
    const folder = await folderWith(
      tinyConfig,
      tensorsOf(tinyConfig).filter(([name]) => !name.endsWith('1.mlp.up_proj.weight')),
    );
    const message = await refusal(() => readCheckpoint(folder));
    expect(message).toContain('model.layers.1.mlp.up_proj.weight of shape [12, 8] is missing');
  });

  it('names the tensor of another shape, and both shapes', async () => {
    const tensors = tensorsOf(tinyConfig).map(([name, shape]): Tensors[number] =>
      name === 'model.embed_tokens.weight' ? [name, [17, 8]] : [name, shape],
    );
    const message = await refusal(async () => readCheckpoint(await folderWith(tinyConfig, tensors)));
    expect(message).toContain(
      'model.embed_tokens.weight: has the shape [17, 8]; config.json asks for [16, 8]',
    );
  });

  it('refuses a transposed tensor of the same size', async () => {
    const tensors = tensorsOf(tinyConfig).map(([name, shape]): Tensors[number] =>
      name.endsWith('0.mlp.up_proj.weight') ? [name, [...shape].reverse()] : [name, shape],
    );
    expect(await refusal(async () => readCheckpoint(await folderWith(tinyConfig, tensors)))).toContain(
      '[8, 12]',
    );
  });

  it('refuses integer weights', async () => {
    const folder = await folderWith(tinyConfig, tensorsOf(tinyConfig), 'I16');
    expect(await refusal(() => readCheckpoint(folder))).toContain(
      'has the dtype I16; supported are BF16, F16, F32',
    );
  });

  it('refuses tensors of layers that the config does not have', async () => {
    const more = tensorsOf({ ...tinyConfig, num_hidden_layers: 3 });
    const folder = await folderWith(tinyConfig, more);
    expect(await refusal(() => readCheckpoint(folder))).toContain('"model.layers.2.');
  });

  it('refuses a bias that the config does not have', async () => {
    const bias: Tensors = [['model.layers.0.self_attn.q_proj.bias', [8]]];
    const folder = await folderWith(tinyConfig, [...tensorsOf(tinyConfig), ...bias]);
    expect(await refusal(() => readCheckpoint(folder))).toContain('q_proj.bias');
  });

  it('says which file or folder is missing', async () => {
    expect(await refusal(() => readCheckpoint('/no/such/folder'))).toContain('no such folder');
    const weights = safetensorsFile({}, 0);
    expect(
      await refusal(async () => readCheckpoint(await modelFolder({ 'model.safetensors': weights }))),
    ).toContain('config.json is missing');
    const folder = await modelFolder({ 'model.gguf': 'GGUF' });
    expect(await refusal(() => readCheckpoint(path.join(folder, 'model.gguf')))).toContain('GGUF');
  });

  it('refuses a config that is no JSON or too long', async () => {
    expect(await refusal(async () => readCheckpoint(await modelFolder({ 'config.json': '{' })))).toContain(
      'not valid JSON',
    );
    const long = ' '.repeat(5 * 1024 * 1024);
    expect(await refusal(async () => readCheckpoint(await modelFolder({ 'config.json': long })))).toContain(
      'at most',
    );
  });
});

describe('a checkpoint in fp8', () => {
  const blocks = { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [8, 4] };
  const channels = {
    quant_method: 'compressed-tensors',
    format: 'float-quantized',
    config_groups: { group_0: { weights: { type: 'float', num_bits: 8, strategy: 'channel' } } },
  };
  type Stored = [name: string, dtype: string, shape: readonly number[]][];
  const bytesOf: Record<string, number> = { F8_E4M3: 1, BF16: 2, F32: 4, F8_E8M0: 1 };

  /** The tiny model's tensors, its projections in fp8 with scales of this shape. */
  const tensorsInFp8 = (scale: string, dtype: string, shapeOf: (rows: number, cols: number) => number[]) =>
    tensorsOf(tinyConfig).flatMap(([name, shape]): Stored => {
      if (!name.endsWith('_proj.weight')) return [[name, 'BF16', shape]];
      const [rows, cols] = shape as [number, number];
      return [
        [name, 'F8_E4M3', shape],
        [`${name}${scale}`, dtype, shapeOf(rows, cols)],
        [name.replace('weight', 'input_scale'), 'F32', []],
      ];
    });

  function folderOf(quantization: object, stored: Stored) {
    let at = 0;
    const header = Object.fromEntries(
      stored.map(([name, dtype, shape]) => {
        const begin = at;
        at += bytesOf[dtype]! * shape.reduce((a, b) => a * b, 1);
        return [name, { dtype, shape, data_offsets: [begin, at] }];
      }),
    );
    return modelFolder({
      'config.json': { ...tinyConfig, quantization_config: quantization },
      'model.safetensors': safetensorsFile(header, at),
    });
  }

  it.each([
    [
      'blocks',
      blocks,
      '_scale_inv',
      'F32',
      (r: number, c: number) => [Math.ceil(r / 8), Math.ceil(c / 4)],
      8,
      4,
    ],
    ['rows', channels, '_scale', 'BF16', (r: number) => [r, 1], 1, 8],
    ['rows, in one dimension', channels, '_scale', 'F32', (r: number) => [r], 1, 8],
    ['whole matrices', { quant_method: 'fp8' }, '_scale', 'F32', () => [], 12, 8],
  ])('has scales of %s', async (_what, quantization, scale, dtype, shapeOf, blockRows, blockCols) => {
    const { tensors } = await readCheckpoint(
      await folderOf(quantization, tensorsInFp8(scale, dtype, shapeOf)),
    );
    expect(tensors).toHaveLength(tensorsOf(tinyConfig).length);
    const up = tensors.find(({ name }) => name === 'model.layers.1.mlp.up_proj.weight')!;
    expect(up).toMatchObject({
      dtype: 'e4m3',
      shape: [12, 8],
      scales: { dtype: dtype.toLowerCase(), blockRows, blockCols },
    });
    expect(up.end - up.begin).toBe(96);
    expect(up.scales!.begin).toBe(up.end);
  });

  it('refuses a matrix without its scales, with scales of another shape or in another form', async () => {
    const good = tensorsInFp8('_scale', 'F32', (rows) => [rows, 1]);
    const refusalOf = (stored: Stored) =>
      refusal(async () => readCheckpoint(await folderOf(channels, stored)));
    expect(await refusalOf(good.filter(([name]) => !name.endsWith('0.mlp.up_proj.weight_scale')))).toContain(
      '0.mlp.up_proj.weight: is in fp8, and model.layers.0.mlp.up_proj.weight_scale or ',
    );
    expect(await refusalOf(tensorsInFp8('_scale', 'F32', (rows) => [rows, 3]))).toContain(
      'has the shape [8, 3]',
    );
    expect(await refusalOf(tensorsInFp8('_scale', 'F8_E8M0', (rows) => [rows, 1]))).toContain(
      'the dtype F8_E8M0',
    );
    const norms = good.map(([name, dtype, shape]): Stored[number] =>
      name === 'model.norm.weight' ? [name, 'F8_E4M3', shape] : [name, dtype, shape],
    );
    expect(await refusalOf(norms)).toContain('which only matrices may be');
  });

  it('is not converted', async () => {
    const folder = await folderOf(
      blocks,
      tensorsInFp8('_scale', 'F32', (rows) => [rows, 1]),
    );
    const reader = new WeightReader(await readCheckpoint(folder));
    expect(reader.entry('model.norm.weight').dtype).toBe('bf16');
    expect(await refusal(() => reader.matrix('model.layers.0.self_attn.q_proj.weight'))).toContain(
      'is in fp8',
    );
  });

  it('is not taken for one where the config does not say so', async () => {
    const stored = tensorsInFp8('_scale', 'F32', (rows) => [rows, 1]);
    const folder = await folderOf(blocks, stored);
    await writeFile(path.join(folder, 'config.json'), JSON.stringify(tinyConfig));
    expect(await refusal(() => readCheckpoint(folder))).toContain('has the dtype F8_E4M3');
  });

  it.each([
    [{ quant_method: 'gptq' }, '"gptq"'],
    [{ quant_method: 'fp8', fmt: 'e5m2' }, '"fp8"'],
    [{ ...channels, format: 'pack-quantized' }, '"pack-quantized"'],
    [
      { ...channels, config_groups: { group_0: { weights: { type: 'int', num_bits: 8 } } } },
      '"float-quantized"',
    ],
    ['int8', 'is quantized'],
  ])('is told from other quantized ones: %j', async (quantization, named) => {
    expect(
      await refusal(() => modelSpec('config.json', { ...tinyConfig, quantization_config: quantization })),
    ).toContain(named);
  });
});
