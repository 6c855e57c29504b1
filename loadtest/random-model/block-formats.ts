import { toBf16, toF16 } from '../../engine/index.js';

/** Weights that share a scale in GGUF's simple formats. Every format here is laid out in such blocks. */
export const blockValues = 32;

export type WeightFormat = 'bf16' | 'q8_0' | 'q4_0';

export const blockBytes: Readonly<Record<WeightFormat, number>> = { bf16: 64, q8_0: 34, q4_0: 18 };

/** Encodes values [32] into `out` at `at`. */
type Encode = (values: Float32Array, out: DataView, at: number) => void;

const encodeBf16: Encode = (values, out, at) => {
  for (let i = 0; i < blockValues; i += 1) out.setUint16(at + 2 * i, toBf16(values[i]!), true);
};

/** GGUF Q8_0: an f16 scale d = max|x| / 127, then 32 signed bytes. */
const encodeQ8: Encode = (values, out, at) => {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const scale = largest / 127;
  out.setUint16(at, toF16(scale), true);
  for (let i = 0; i < blockValues; i += 1) {
    out.setInt8(at + 2 + i, scale === 0 ? 0 : Math.round(values[i]! / scale));
  }
};

/** GGUF Q4_0: an f16 scale d = (the value of largest magnitude) / -8, then values i and i + 16 share byte i. */
const encodeQ4: Encode = (values, out, at) => {
  let largest = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(largest)) largest = value;
  const scale = largest / -8;
  const level = (value: number) => (scale === 0 ? 8 : Math.min(15, Math.floor(value / scale + 8.5)));
  out.setUint16(at, toF16(scale), true);
  for (let i = 0; i < 16; i += 1) {
    out.setUint8(at + 2 + i, level(values[i]!) | (level(values[i + 16]!) << 4));
  }
};

const encoders: Readonly<Record<WeightFormat, Encode>> = { bf16: encodeBf16, q8_0: encodeQ8, q4_0: encodeQ4 };

/** `values` holds whole blocks. */
export function encodeBlocks(values: Float32Array, format: WeightFormat): Uint8Array {
  const blocks = values.length / blockValues;
  const bytes = new Uint8Array(blocks * blockBytes[format]);
  const view = new DataView(bytes.buffer);
  const encode = encoders[format];
  for (let block = 0; block < blocks; block += 1) {
    encode(values.subarray(block * blockValues, (block + 1) * blockValues), view, block * blockBytes[format]);
  }
  return bytes;
}
