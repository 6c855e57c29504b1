import { toBf16 } from '../../engine/index.js';
import { ChunkedFile } from './chunked-file.js';
import type { TensorPlan } from './model-shape.js';
import type { WeightPool } from './weight-pool.js';

/** Writes all tensors as bf16. */
export function writeSafetensors(file: string, tensors: readonly TensorPlan[], pool: WeightPool): void {
  const output = new ChunkedFile(file);
  try {
    output.write(header(tensors));
    for (const [index, plan] of tensors.entries()) {
      if (plan.kind !== 'matrix') {
        output.write(new Uint8Array(Uint16Array.from(pool[plan.kind](index, plan.cols), toBf16).buffer));
        continue;
      }
      for (let row = 0; row < plan.rows; row += 1) {
        output.write(pool.encodedRow(index, row, plan.cols, 'bf16'));
      }
    }
  } finally {
    output.close();
  }
}

/** Length in 8 bytes, then JSON, padded with spaces so that the data is aligned. */
function header(tensors: readonly TensorPlan[]): Uint8Array {
  const entries: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, kind, rows, cols, dimensions } of tensors) {
    const end = offset + rows * cols * 2;
    entries[name] = {
      dtype: 'BF16',
      shape: dimensions ?? (kind === 'matrix' ? [rows, cols] : [cols]),
      data_offsets: [offset, end],
    };
    offset = end;
  }
  const json = JSON.stringify(entries);
  const padded = Buffer.from(json.padEnd(Math.ceil(json.length / 64) * 64 + 56));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded]);
}
