import { readFileSync } from 'node:fs';

/** A reader of GGUF, written from the format's description (ggml, docs/gguf.md) and for tests only. */
export interface GgufFile {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

export interface GgufTensor {
  /** Outermost first. */
  readonly shape: readonly number[];
  readonly type: number;
  readonly values: Float64Array;
}

export const ggmlTypes = { f32: 0, q4_0: 2, q8_0: 8, bf16: 30 } as const;

export function readGguf(file: string): GgufFile {
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let next = 0;
  /** Where the next bytes begin; they are read by that. */
  const take = (count: number) => {
    next += count;
    return next - count;
  };
  const u32 = () => view.getUint32(take(4), true);
  const u64 = () => Number(view.getBigUint64(take(8), true));
  const text = () => {
    const length = u64();
    return bytes.toString('utf8', take(length), next);
  };
  const value = (type: number): unknown => {
    switch (type) {
      case 4:
        return u32();
      case 5:
        return view.getInt32(take(4), true);
      case 6:
        return view.getFloat32(take(4), true);
      case 7:
        return view.getUint8(take(1)) === 1;
      case 8:
        return text();
      case 9: {
        const element = u32();
        return Array.from({ length: u64() }, () => value(element));
      }
      default:
        throw new Error(`a value of type ${type} at ${next}`);
    }
  };

  if (bytes.toString('latin1', take(4), 4) !== 'GGUF' || u32() !== 3) throw new Error('no GGUF of version 3');
  const tensorCount = u64();
  const metadata = Object.fromEntries(Array.from({ length: u64() }, () => [text(), value(u32())]));
  const infos = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64).reverse();
    return { name, shape, type: u32(), offset: u64() };
  });
  const alignment = metadata['general.alignment'] as number;
  const data = Math.ceil(next / alignment) * alignment;
  const tensors = infos.map(({ name, shape, type, offset }): [string, GgufTensor] => {
    if (offset % alignment !== 0) throw new Error(`${name} is not aligned`);
    const count = shape.reduce((product, length) => product * length, 1);
    return [name, { shape, type, values: decode(view, data + offset, count, type) }];
  });
  return { metadata, tensors: new Map(tensors) };
}

function decode(view: DataView, at: number, count: number, type: number): Float64Array {
  switch (type) {
    case ggmlTypes.f32:
      return Float64Array.from({ length: count }, (_, i) => view.getFloat32(at + 4 * i, true));
    case ggmlTypes.bf16:
      return Float64Array.from({ length: count }, (_, i) => bf16(view.getUint16(at + 2 * i, true)));
    case ggmlTypes.q8_0:
      return Float64Array.from({ length: count }, (_, i) => {
        const block = at + 34 * Math.floor(i / 32);
        return half(view.getUint16(block, true)) * view.getInt8(block + 2 + (i % 32));
      });
    case ggmlTypes.q4_0:
      return Float64Array.from({ length: count }, (_, i) => {
        const block = at + 18 * Math.floor(i / 32);
        const byte = view.getUint8(block + 2 + (i % 16));
        return half(view.getUint16(block, true)) * ((i % 32 < 16 ? byte & 15 : byte >> 4) - 8);
      });
    default:
      throw new Error(`a tensor of type ${type}`);
  }
}

export function bf16(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
}

/** IEEE 754 binary16. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const magnitude = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}
