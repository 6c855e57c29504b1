import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readSafetensorsHeader, readStoredTensors } from '../../../engine/model/safetensors.js';
import { headerOf, modelFolder, refusal, removeFolders, safetensorsFile } from './model-folder.js';

afterAll(removeFolders);

const good = headerOf([
  ['a', [2, 3]],
  ['b', [4]],
]);

async function single(file: Buffer) {
  const folder = await modelFolder({ 'model.safetensors': file });
  return { folder, read: () => readSafetensorsHeader(path.join(folder, 'model.safetensors')) };
}

describe('safetensors header', () => {
  it('gives tensors with their place in the file', async () => {
    const file = safetensorsFile({ __metadata__: { format: 'pt' }, ...good.header }, good.dataBytes);
    const { read } = await single(file);
    const dataStart = file.length - good.dataBytes;
    expect(await read()).toEqual([
      { name: 'a', dtype: 'BF16', shape: [2, 3], begin: dataStart, end: dataStart + 12 },
      { name: 'b', dtype: 'BF16', shape: [4], begin: dataStart + 12, end: dataStart + 20 },
    ]);
  });

  it('takes tensors without elements, and scalars', async () => {
    const header = {
      none: { dtype: 'F32', shape: [0, 5], data_offsets: [0, 0] },
      one: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
    };
    const { read } = await single(safetensorsFile(header, 4));
    expect((await read()).map((tensor) => tensor.name)).toEqual(['none', 'one']);
  });

  const lengthOf = (length: bigint, total: number) => {
    const file = Buffer.alloc(total);
    file.writeBigUInt64LE(length);
    return file;
  };
  const changed = (name: 'a' | 'b', fields: object) => ({
    ...good.header,
    [name]: { ...good.header[name], ...fields },
  });

  it.each<[string, Buffer, string]>([
    ['an empty file', Buffer.alloc(0), '0 bytes long'],
    ['a file of 7 bytes', Buffer.alloc(7), '7 bytes long'],
    ['a header longer than the file', lengthOf(93n, 100), 'its header is 93 bytes long, but the file is 100'],
    ['a header length of 2^64 - 1', lengthOf(2n ** 64n - 1n, 100), '18446744073709551615'],
    ['a header length of 2^63', lengthOf(2n ** 63n, 100), '9223372036854775808'],
    ['a header just above the limit', lengthOf(100_000_001n, 100), 'at most 100000000'],
    ['a header that is no JSON', safetensorsFile('{"a":', 0), 'not valid JSON'],
    ['a header that is a list', safetensorsFile([], 0), 'expected a JSON object'],
    ['a header that is null', safetensorsFile('null', 0), 'expected a JSON object'],
    ['a truncated file', safetensorsFile(good.header, good.dataBytes - 1), 'tensor "b"'],
    [
      'a file with more data',
      safetensorsFile(good.header, good.dataBytes + 3),
      '3 bytes after its last tensor',
    ],
    ['an unknown dtype', safetensorsFile(changed('a', { dtype: 'F17' }), 20), 'unknown dtype "F17"'],
    [
      'a dtype named like a method',
      safetensorsFile(changed('a', { dtype: 'toString' }), 20),
      'unknown dtype',
    ],
    [
      'a shape with a fraction',
      safetensorsFile(changed('a', { shape: [1.5, 4] }), 20),
      'has the shape [1.5,4]',
    ],
    ['a negative shape', safetensorsFile(changed('a', { shape: [-2, -3] }), 20), 'has the shape [-2,-3]'],
    [
      'a shape of nine dimensions',
      safetensorsFile(changed('a', { shape: Array(9).fill(1) }), 20),
      'at most 8',
    ],
    [
      'a shape whose product overflows',
      safetensorsFile(changed('a', { shape: [2 ** 52, 2 ** 52] }), 20),
      'BF16 of',
    ],
    [
      'a shape that lies',
      safetensorsFile(changed('a', { shape: [2, 4] }), 20),
      'has 12 bytes, but BF16 of shape [2, 4]',
    ],
    ['no offsets', safetensorsFile(changed('a', { data_offsets: undefined }), 20), 'data_offsets'],
    [
      'offsets backwards',
      safetensorsFile(changed('a', { data_offsets: [12, 0] }), 20),
      'data_offsets [12, 0]',
    ],
    [
      'offsets beyond the file',
      safetensorsFile(changed('b', { data_offsets: [12, 2 ** 53 - 1] }), 20),
      'tensor "b"',
    ],
    [
      'offsets below zero',
      safetensorsFile(changed('a', { data_offsets: [-12, 0] }), 20),
      'data_offsets [-12,0]',
    ],
    [
      'overlapping tensors',
      safetensorsFile(changed('b', { data_offsets: [10, 18] }), 20),
      'overlaps tensor "a" by 2',
    ],
    ['a gap', safetensorsFile(changed('b', { data_offsets: [14, 22] }), 22), 'starts 2 bytes after'],
    ['an entry that is null', safetensorsFile({ a: null }, 0), 'tensor "a"'],
  ])('refuses %s', async (_what, file, part) => {
    const { folder, read } = await single(file);
    const message = await refusal(read);
    expect(message).toContain(path.join(folder, 'model.safetensors'));
    expect(message).toContain(part);
  });

  it('keeps messages short and clean whatever the names are', async () => {
    const header = { [`\u001b[2J${'x'.repeat(100_000)}`]: { dtype: 'F17', shape: [], data_offsets: [0, 0] } };
    const message = await refusal((await single(safetensorsFile(header, 0))).read);
    expect(message.length).toBeLessThan(600);
    expect(message).not.toContain('\u001b');
  });
});

describe('sharded safetensors', () => {
  const shard = (names: string[]) => {
    const { header, dataBytes } = headerOf(names.map((name) => [name, [2]]));
    return safetensorsFile(header, dataBytes);
  };
  const sharded = (weight_map: unknown, files: Record<string, Buffer>) =>
    modelFolder({ 'model.safetensors.index.json': { metadata: {}, weight_map }, ...files });

  it('gathers the tensors of all shards', async () => {
    const folder = await sharded(
      { x: 'model-1.safetensors', y: 'model-2.safetensors', z: 'model-2.safetensors' },
      { 'model-1.safetensors': shard(['x']), 'model-2.safetensors': shard(['y', 'z']) },
    );
    const { files, tensors } = await readStoredTensors(folder);
    expect(files).toEqual([1, 2].map((n) => path.join(folder, `model-${n}.safetensors`)));
    expect([...tensors].map(([name, { file }]) => [name, file])).toEqual([
      ['x', 0],
      ['y', 1],
      ['z', 1],
    ]);
  });

  it.each<[string, unknown, Record<string, Buffer>, string]>([
    ['no weight_map', undefined, {}, 'weight_map'],
    ['an empty weight_map', {}, {}, 'is empty'],
    ['a path out of the folder', { x: '../other.safetensors' }, {}, '"../other.safetensors"'],
    ['an absolute path', { x: '/etc/other.safetensors' }, {}, '"/etc/other.safetensors"'],
    ['a path with a backslash', { x: '..\\other.safetensors' }, {}, 'other.safetensors'],
    ['a name with NUL', { x: 'a\0.safetensors' }, {}, '\\u0000'],
    ['a shard of another kind', { x: 'model.bin' }, {}, '"model.bin"'],
    ['a shard that is a number', { x: 7 }, {}, 'gives 7'],
    ['a missing shard', { x: 'a.safetensors' }, {}, 'cannot be opened'],
    [
      'a tensor missing from its shard',
      { x: 'a.safetensors', y: 'a.safetensors' },
      { 'a.safetensors': shard(['x']) },
      '"y"',
    ],
    [
      'a tensor in another shard than said',
      { x: 'a.safetensors', y: 'b.safetensors', z: 'b.safetensors' },
      { 'a.safetensors': shard(['x', 'y']), 'b.safetensors': shard(['z']) },
      'tensor "y" is in b.safetensors',
    ],
    [
      'a tensor in two shards',
      { x: 'a.safetensors', y: 'b.safetensors' },
      { 'a.safetensors': shard(['x']), 'b.safetensors': shard(['x', 'y']) },
      'tensor "x" is also in a.safetensors',
    ],
  ])('refuses %s', async (_what, weightMap, files, part) => {
    const folder = await sharded(weightMap, files);
    expect(await refusal(() => readStoredTensors(folder))).toContain(part);
  });
});

describe('folders without safetensors', () => {
  it.each([
    ['model.gguf', 'GGUF'],
    ['pytorch_model.bin', 'save_pretrained'],
    ['consolidated.safetensors', 'rename'],
    ['readme.txt', 'model.safetensors or model.safetensors.index.json is missing'],
  ])('says what to do with %s', async (name, part) => {
    const folder = await modelFolder({ [name]: 'x' });
    expect(await refusal(() => readStoredTensors(folder))).toContain(part);
  });
});
