import { closeSync, openSync, readSync } from 'node:fs';
import { invalidModel } from '../model/model-files.js';
import type { Checkpoint, FloatDtype, Place, TensorEntry } from '../model/model-spec.js';
import { type Matrix, matrix } from './matrix.js';
import { decode } from './tensor-values.js';

type FloatTensor = TensorEntry & { readonly dtype: FloatDtype };

/** Tensors of a checkpoint as float64, one at a time: a layer fits in memory where a model may not. */
export class WeightReader {
  readonly #entries: ReadonlyMap<string, TensorEntry>;

  constructor(private readonly checkpoint: Checkpoint) {
    this.#entries = new Map(checkpoint.tensors.map((entry) => [entry.name, entry]));
  }

  /** A vector is a matrix of one row. Throws `EngineError('model_invalid')` if a value is not finite. */
  matrix(name: string): Matrix {
    const entry = this.entry(name);
    const values = decode(this.bytes(entry), entry.dtype);
    if (!values.every(Number.isFinite)) {
      throw invalidModel(this.checkpoint.folder, `tensor ${name} holds values that are not finite`);
    }
    const cols = entry.shape.at(-1)!;
    return matrix(values.length / cols, cols, values);
  }

  /** The rows [first, first + count) of a matrix. */
  rowRange(name: string, first: number, count: number): Matrix {
    const entry = this.entry(name);
    const cols = entry.shape[1]!;
    const rowBytes = (entry.end - entry.begin) / entry.shape[0]!;
    const begin = entry.begin + first * rowBytes;
    return matrix(
      count,
      cols,
      decode(this.bytes({ ...entry, begin, end: begin + count * rowBytes }), entry.dtype),
    );
  }

  entry(name: string): FloatTensor {
    const entry = this.#entries.get(name);
    if (!entry) throw invalidModel(this.checkpoint.folder, `tensor ${name} is missing`);
    const { dtype } = entry;
    if (dtype === 'e4m3') {
      throw invalidModel(
        this.checkpoint.folder,
        `tensor ${name} is in fp8; take the original in bf16, f16 or f32 to convert`,
      );
    }
    return { ...entry, dtype };
  }

  bytes({ file, begin, end }: Place): Uint8Array {
    const handle = openSync(this.checkpoint.files[file]!, 'r');
    try {
      return readRange(handle, begin, end);
    } finally {
      closeSync(handle);
    }
  }
}

function readRange(file: number, begin: number, end: number): Uint8Array {
  const bytes = new Uint8Array(end - begin);
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, begin + done);
    if (read === 0) throw new Error('a checkpoint file became shorter while it was read');
    done += read;
  }
  return bytes;
}
