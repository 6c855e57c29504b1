import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import type { FloatDtype } from '../model/model-spec.js';

export interface WrittenTensor {
  readonly name: string;
  readonly dtype: FloatDtype;
  readonly shape: readonly number[];
  /** Asked for when it is the tensor's turn, so that not all are in memory together. */
  readonly bytes: () => Uint8Array;
}

const bytesOf: Readonly<Record<FloatDtype, number>> = { bf16: 2, f16: 2, f32: 4 };

/** Under its name only when it is whole. Returns the bytes of all tensors. */
export function writeSafetensors(file: string, tensors: readonly WrittenTensor[]): number {
  const part = `${file}.part`;
  const output = openSync(part, 'w');
  let offset = 0;
  try {
    const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
    for (const { name, dtype, shape } of tensors) {
      const end = offset + shape.reduce((product, size) => product * size, bytesOf[dtype]);
      header[name] = { dtype: dtype.toUpperCase(), shape, data_offsets: [offset, end] };
      offset = end;
    }
    const json = JSON.stringify(header);
    // Spaces behind it align the data to 8 bytes.
    const padded = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(padded.length));
    writeAll(output, length);
    writeAll(output, padded);
    for (const { bytes } of tensors) writeAll(output, bytes());
  } finally {
    closeSync(output);
  }
  renameSync(part, file);
  return offset;
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done);
}
