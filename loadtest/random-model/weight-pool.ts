import { fromBf16, toBf16 } from '../../engine/index.js';
import { Random } from '../random.js';
import { blockBytes, blockValues, encodeBlocks, type WeightFormat } from './block-formats.js';

/** Weights of released models have about this deviation at this width; the outputs stay in range over 16 layers. */
const deviation = 0.02;

/** Odd, so that rows walk through all starts of a pool whose size is a power of two before one comes again. */
const stride = 100_003;

/**
 * Random weights that cost a copy. Each matrix row is a window of one pool of normal values, which is encoded once per
 * format; a window begins at a block's border, and no two rows of a matrix begin at the same. So a billion weights are
 * written at the speed of the disk, and all formats hold the same ones.
 */
export class WeightPool {
  readonly #values: Float32Array;
  readonly #starts: number;
  readonly #seed: number;
  readonly #encoded = new Map<WeightFormat, Uint8Array>();

  constructor(options: { maxRows: number; maxCols: number; seed: number }) {
    this.#seed = options.seed;
    this.#starts = 2 ** Math.max(10, Math.ceil(Math.log2(options.maxRows)));
    const random = new Random(options.seed);
    // Rounded to bf16, so that quantized formats are made from exactly what the bf16 checkpoint holds.
    this.#values = Float32Array.from({ length: this.#starts * blockValues + options.maxCols }, () =>
      fromBf16(toBf16(random.normal() * deviation)),
    );
  }

  /** Row `row` of matrix number `tensor`, [cols] values. */
  row(tensor: number, row: number, cols: number): Float32Array {
    const start = this.#start(tensor, row) * blockValues;
    return this.#values.subarray(start, start + cols);
  }

  /** The same row, encoded. */
  encodedRow(tensor: number, row: number, cols: number, format: WeightFormat): Uint8Array {
    let encoded = this.#encoded.get(format);
    if (!encoded) {
      encoded = encodeBlocks(this.#values, format);
      this.#encoded.set(format, encoded);
    }
    const bytes = blockBytes[format];
    const start = this.#start(tensor, row);
    return encoded.subarray(start * bytes, (start + cols / blockValues) * bytes);
  }

  /** A norm's weights: around 1, and all different, so that a norm left out shows in the logits. */
  norm(tensor: number, cols: number): Float32Array {
    const random = new Random(this.#seed + tensor + 1);
    return Float32Array.from({ length: cols }, () => fromBf16(toBf16(1 + 0.1 * random.normal())));
  }

  /** A bias: around 0, and not 0, so that one left out shows. */
  bias(tensor: number, cols: number): Float32Array {
    const random = new Random(this.#seed + tensor + 1);
    return Float32Array.from({ length: cols }, () => fromBf16(toBf16(random.normal() * deviation)));
  }

  #start(tensor: number, row: number): number {
    return (tensor * 7_919 + row * stride) % this.#starts;
  }
}
