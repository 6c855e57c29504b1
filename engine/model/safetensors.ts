import { type FileHandle, open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { EngineError } from '../errors.js';
import { fileExists, invalidModel, parseJson, quoted, readJsonIfThere } from './model-files.js';

/** What a safetensors header says of one tensor, checked against the file's size. */
export interface StoredTensor {
  readonly name: string;
  /** As written in the file: BF16, F32, I64, ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte range in the file (not in its data section). */
  readonly begin: number;
  readonly end: number;
}

export interface StoredTensors {
  /** Absolute paths. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, StoredTensor & { readonly file: number }>;
}

/** The format's own limit (safetensors, `MAX_HEADER_SIZE`). */
const maxHeaderBytes = 100_000_000;
const maxShards = 4096;
const maxDimensions = 8;

const bitsOf: Readonly<Record<string, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F8_E4M3: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2: 8,
  F8_E5M2FNUZ: 8,
  F8_E8M0: 8,
  I8: 8,
  U8: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
};

/** All tensors of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names. */
export async function readStoredTensors(folder: string): Promise<StoredTensors> {
  const single = path.resolve(folder, 'model.safetensors');
  if (await fileExists(single)) {
    const header = await readSafetensorsHeader(single);
    return {
      files: [single],
      tensors: new Map(header.map((tensor) => [tensor.name, { ...tensor, file: 0 }])),
    };
  }
  const indexFile = path.resolve(folder, 'model.safetensors.index.json');
  const index = await readJsonIfThere(indexFile, maxHeaderBytes);
  if (index === undefined) throw await noWeights(folder);
  return readShards(folder, indexFile, weightMap(indexFile, index));
}

async function readShards(
  folder: string,
  indexFile: string,
  shardOf: ReadonlyMap<string, string>,
): Promise<StoredTensors> {
  const names = [...new Set(shardOf.values())].sort();
  if (names.length > maxShards) {
    throw invalidModel(indexFile, `names ${names.length} files; at most ${maxShards} are expected`);
  }
  const files = names.map((name) => path.resolve(folder, name));
  const tensors = new Map<string, StoredTensor & { file: number }>();
  for (const [file, filePath] of files.entries()) {
    for (const tensor of await readSafetensorsHeader(filePath)) {
      const other = tensors.get(tensor.name);
      if (other) {
        throw invalidModel(filePath, `tensor ${quoted(tensor.name)} is also in ${names[other.file]}`);
      }
      tensors.set(tensor.name, { ...tensor, file });
    }
  }
  for (const [tensor, shard] of shardOf) {
    const found = tensors.get(tensor);
    if (!found || names[found.file] !== shard) {
      throw invalidModel(indexFile, `says that tensor ${quoted(tensor)} is in ${shard}, but it is not there`);
    }
  }
  return { files, tensors };
}

function weightMap(indexFile: string, index: unknown): ReadonlyMap<string, string> {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw invalidModel(indexFile, 'expected an object "weight_map" from tensor names to file names');
  }
  const entries = Object.entries(map);
  if (entries.length === 0) throw invalidModel(indexFile, '"weight_map" is empty');
  for (const [tensor, shard] of entries) {
    // A name with a folder in it could lead out of the model's folder.
    if (typeof shard !== 'string' || !/^[^/\\\0]+\.safetensors$/.test(shard)) {
      throw invalidModel(
        indexFile,
        `"weight_map" gives ${quoted(shard)} for tensor ${quoted(tensor)}; expected a *.safetensors file of the same folder`,
      );
    }
  }
  return new Map(entries);
}

/** Reads and checks a file's header; the tensors' data is not read. */
export async function readSafetensorsHeader(file: string): Promise<StoredTensor[]> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    throw invalidModel(file, `cannot be opened (${(error as Error).message})`);
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw invalidModel(file, 'is not a file');
    const start = await readExactly(handle, file, 0, Math.min(8, found.size));
    const headerBytes = headerLength(file, start, found.size);
    const header = await readExactly(handle, file, 8, headerBytes);
    return parseSafetensorsHeader(file, header, found.size);
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw invalidModel(file, `cannot be read (${(error as Error).message})`);
  } finally {
    await handle.close();
  }
}

async function readExactly(
  handle: FileHandle,
  file: string,
  position: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0)
      throw invalidModel(file, `ends after ${position + done} bytes while it is being read`);
    done += bytesRead;
  }
  return buffer;
}

/** Length of the JSON header, from the file's first 8 bytes. Nothing of that length is allocated before this check. */
export function headerLength(file: string, start: Uint8Array, fileBytes: number): number {
  if (start.length < 8 || fileBytes < 8) {
    throw invalidModel(
      file,
      `is ${fileBytes} bytes long, too short for a safetensors file (truncated download?)`,
    );
  }
  const length = Buffer.from(start.buffer, start.byteOffset, 8).readBigUInt64LE(0);
  if (length > BigInt(maxHeaderBytes)) {
    throw invalidModel(
      file,
      `says that its header is ${length} bytes long; at most ${maxHeaderBytes} are allowed (is it a safetensors file?)`,
    );
  }
  if (8 + Number(length) > fileBytes) {
    throw invalidModel(
      file,
      `says that its header is ${length} bytes long, but the file is ${fileBytes} bytes long (truncated download?)`,
    );
  }
  return Number(length);
}

/** `header` is the JSON alone. Tensors come in the order of their place in the file. */
export function parseSafetensorsHeader(file: string, header: Buffer, fileBytes: number): StoredTensor[] {
  const dataStart = 8 + header.length;
  const parsed = parseJson(`${file} (header)`, header.toString('utf8'));
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw invalidModel(file, 'expected a JSON object as header');
  }
  const tensors = Object.entries(parsed)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => tensorOf(file, name, entry, dataStart, fileBytes));
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(file, tensors, dataStart, fileBytes);
  return tensors;
}

function tensorOf(
  file: string,
  name: string,
  entry: unknown,
  dataStart: number,
  fileBytes: number,
): StoredTensor {
  const where = `${file}: tensor ${quoted(name)}`;
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(bitsOf, dtype)) {
    throw invalidModel(where, `has the unknown dtype ${quoted(dtype)}`);
  }
  if (!isCountList(shape) || shape.length > maxDimensions) {
    throw invalidModel(
      where,
      `has the shape ${quoted(shape)}; expected at most ${maxDimensions} whole numbers`,
    );
  }
  if (!isCountList(offsets) || offsets.length !== 2) {
    throw invalidModel(where, `has data_offsets ${quoted(offsets)}; expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || dataStart + end > fileBytes) {
    throw invalidModel(
      where,
      `has data_offsets [${begin}, ${end}], but the file has ${fileBytes - dataStart} bytes of data (truncated download?)`,
    );
  }
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  const bytes = (elements * bitsOf[dtype]!) / 8;
  if (!Number.isSafeInteger(elements) || bytes !== end - begin) {
    throw invalidModel(
      where,
      `has ${end - begin} bytes, but ${dtype} of shape [${shape.join(', ')}] has ${bytes}`,
    );
  }
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** The format asks for data without overlaps and holes, so that a file has one reading. */
function checkCoverage(
  file: string,
  tensors: readonly StoredTensor[],
  dataStart: number,
  fileBytes: number,
): void {
  let covered = dataStart;
  let previous = '';
  for (const tensor of tensors) {
    if (tensor.begin !== covered) {
      const overlap = tensor.begin < covered;
      throw invalidModel(
        `${file}: tensor ${quoted(tensor.name)}`,
        overlap
          ? `overlaps tensor ${quoted(previous)} by ${covered - tensor.begin} bytes`
          : `starts ${tensor.begin - covered} bytes after the end of what is before it; safetensors has no gaps`,
      );
    }
    covered = tensor.end;
    previous = tensor.name;
  }
  if (covered !== fileBytes) {
    throw invalidModel(file, `has ${fileBytes - covered} bytes after its last tensor; safetensors has none`);
  }
}

async function noWeights(folder: string): Promise<EngineError> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const has = (ending: string) => names.find((name) => name.toLowerCase().endsWith(ending));
  const gguf = has('.gguf');
  if (gguf) {
    return invalidModel(
      folder,
      `has ${gguf}, but GGUF is not supported; take the model's safetensors version from where it was published`,
    );
  }
  const pickle = has('.bin') ?? has('.pt') ?? has('.pth');
  if (pickle) {
    return invalidModel(
      folder,
      `has ${pickle}, but only safetensors weights are supported; load it with transformers and save it with ` +
        'save_pretrained(..., safe_serialization=True)',
    );
  }
  const other = has('.safetensors');
  if (other) {
    return invalidModel(
      folder,
      `has ${other}, but neither model.safetensors nor model.safetensors.index.json; rename a single file to ` +
        'model.safetensors, or download the index of a sharded one',
    );
  }
  return invalidModel(folder, 'has no weights: model.safetensors or model.safetensors.index.json is missing');
}
