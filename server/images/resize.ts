import type { Size } from './tiles.js';

/*
 * Lanczos resampling with the integers of Pillow (libImaging/Resample.c), by which models were trained on images: columns,
 * then rows, each rounded to bytes. libvips enlarges by other weights, and by other ones on other processors.
 */

const lobes = 3;
const channels = 3;
const precisionBits = 22;

/** Of each output: the first input that it is made of, and the weights of that and the next ones. */
interface Weights {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** [outputs, most], times 2^precisionBits */
  readonly values: Int32Array;
  readonly most: number;
}

/** pixels [from.height, from.width, 3] at another size, whatever its shape. */
export function resize(pixels: Uint8Array, from: Size, to: Size): Uint8Array {
  const wide =
    from.width === to.width ? pixels : resampleRows(pixels, from, to.width, weightsOf(from.width, to.width));
  if (from.height === to.height) return wide;
  return resampleColumns(wide, to.width, to.height, weightsOf(from.height, to.height));
}

function weightsOf(inputs: number, outputs: number): Weights {
  const scale = inputs / outputs;
  const stretch = Math.max(1, scale);
  const support = lobes * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outputs);
  const count = new Int32Array(outputs);
  const values = new Int32Array(outputs * most);
  const exact = new Float64Array(most);
  for (let output = 0; output < outputs; output++) {
    const centre = (output + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inputs, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let input = begin; input < end; input++) {
      exact[input - begin] = lanczos((input - centre + 0.5) / stretch);
      sum += exact[input - begin]!;
    }
    first[output] = begin;
    count[output] = end - begin;
    for (let i = 0; i < end - begin; i++) {
      const weight = (exact[i]! / sum) * 2 ** precisionBits;
      values[output * most + i] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
  }
  return { first, count, values, most };
}

function lanczos(x: number): number {
  return Math.abs(x) < lobes ? sinc(x) * sinc(x / lobes) : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function resampleRows(pixels: Uint8Array, from: Size, width: number, weights: Weights): Uint8Array {
  const { first, count, values, most } = weights;
  const out = new Uint8Array(from.height * width * channels);
  for (let y = 0; y < from.height; y++) {
    for (let x = 0; x < width; x++) {
      let source = (y * from.width + first[x]!) * channels;
      let [red, green, blue] = [half, half, half];
      for (let i = x * most; i < x * most + count[x]!; i++, source += channels) {
        const weight = values[i]!;
        red += weight * pixels[source]!;
        green += weight * pixels[source + 1]!;
        blue += weight * pixels[source + 2]!;
      }
      const target = (y * width + x) * channels;
      out[target] = toByte(red);
      out[target + 1] = toByte(green);
      out[target + 2] = toByte(blue);
    }
  }
  return out;
}

function resampleColumns(pixels: Uint8Array, width: number, height: number, weights: Weights): Uint8Array {
  const { first, count, values, most } = weights;
  const row = width * channels;
  const out = new Uint8Array(height * row);
  const sums = new Float64Array(row);
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    for (let i = 0; i < count[y]!; i++) {
      const weight = values[y * most + i]!;
      const source = (first[y]! + i) * row;
      for (let x = 0; x < row; x++) sums[x]! += weight * pixels[source + x]!;
    }
    for (let x = 0; x < row; x++) out[y * row + x] = toByte(sums[x]!);
  }
  return out;
}

const half = 2 ** (precisionBits - 1);

function toByte(sum: number): number {
  return Math.min(255, Math.max(0, sum >> precisionBits));
}
