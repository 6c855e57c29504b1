/** A value of a GGUF header with its type, which the format asks for. */
export type GgufValue =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s'; readonly value: readonly number[] };

export interface GgufTensorInfo {
  readonly name: string;
  /** Innermost dimension first. */
  readonly dimensions: readonly number[];
  readonly type: number;
  /** From the start of the data. */
  readonly offset: number;
}

export const ggufAlignment = 32;

/** ids of `gguf_metadata_value_type` */
const typeIds = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** The file up to its data, version 3, padded to the alignment. */
export function ggufHeader(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensorInfo[],
): Buffer {
  const entries = Object.entries(metadata);
  const parts = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length)];
  for (const [key, value] of entries) parts.push(text(key), encode(value));
  for (const { name, dimensions, type, offset } of tensors) {
    parts.push(text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset));
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(padding(header.length))]);
}

/** Bytes from `position` to the next aligned one. */
export function padding(position: number): number {
  return (ggufAlignment - (position % ggufAlignment)) % ggufAlignment;
}

function encode(value: GgufValue): Buffer {
  switch (value.type) {
    case 'u32':
      return Buffer.concat([u32(typeIds.u32), u32(value.value)]);
    case 'f32':
      return Buffer.concat([u32(typeIds.f32), f32(value.value)]);
    case 'bool':
      return Buffer.concat([u32(typeIds.bool), Buffer.from([value.value ? 1 : 0])]);
    case 'string':
      return Buffer.concat([u32(typeIds.string), text(value.value)]);
    case 'strings':
      return array(typeIds.string, value.value.map(text));
    case 'i32s':
      return array(typeIds.i32, value.value.map(i32));
  }
}

function array(elementType: number, elements: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(typeIds.array), u32(elementType), u64(elements.length), ...elements]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
