import type { FloatDtype } from '../model/model-spec.js';
import { fromF16, toBf16, toF16 } from '../model/number-formats.js';

type Dtype = FloatDtype;

const largest: Readonly<Record<Dtype, number>> = { f16: 65_519, bf16: 3.3895e38, f32: 3.4028e38 };

/** Numbers of a tensor as the checkpoint has them. */
export function decode(bytes: Uint8Array, dtype: Dtype): Float64Array {
  const { buffer, byteOffset, length } = bytes;
  if (dtype === 'f32') return Float64Array.from(new Float32Array(buffer, byteOffset, length / 4));
  const halves = new Uint16Array(buffer, byteOffset, length / 2);
  if (dtype === 'f16') return Float64Array.from(halves, fromF16);
  const floats = new Float32Array(halves.length);
  const bits = new Uint32Array(floats.buffer);
  for (let at = 0; at < halves.length; at += 1) bits[at] = halves[at]! << 16;
  return Float64Array.from(floats);
}

/** The nearest numbers of the format. Throws a RangeError where the format has none so large. */
export function encode(values: Float64Array, dtype: Dtype): Uint8Array {
  if (!values.every((value) => Math.abs(value) <= largest[dtype])) {
    throw new RangeError(`a converted weight is too large for ${dtype}`);
  }
  if (dtype === 'f32') return new Uint8Array(Float32Array.from(values).buffer);
  return new Uint8Array(Uint16Array.from(values, dtype === 'bf16' ? toBf16 : toF16).buffer);
}
