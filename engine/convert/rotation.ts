import type { RopeSpec } from '../model/model-spec.js';
import type { Matrix } from './matrix.js';

/** RoPE at the positions 0, 1, ... of a window, in float64. Channel i of a head turns with channel i + headDim / 2. */
export class Rotation {
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;
  readonly #pairs: number;

  constructor(rope: RopeSpec, positions: number) {
    this.#pairs = rope.inverseFrequencies.length;
    const angles = Float64Array.from({ length: positions * this.#pairs }, (_, at) => {
      return Math.floor(at / this.#pairs) * rope.inverseFrequencies[at % this.#pairs]!;
    });
    this.#cos = angles.map((angle) => Math.cos(angle) * rope.attentionFactor);
    this.#sin = angles.map((angle) => Math.sin(angle) * rope.attentionFactor);
  }

  /** In place; `m` [rows, heads * headDim], `positions` of its rows. */
  turn(m: Matrix, positions: ArrayLike<number>): void {
    this.#apply(m, positions, 1);
  }

  /** The transpose of `turn`: what a gradient behind it is before it. */
  turnBack(m: Matrix, positions: ArrayLike<number>): void {
    this.#apply(m, positions, -1);
  }

  #apply({ data, rows, cols, rowStride }: Matrix, positions: ArrayLike<number>, direction: 1 | -1): void {
    const pairs = this.#pairs;
    for (let row = 0; row < rows; row += 1) {
      const angle = positions[row]! * pairs;
      for (let head = row * rowStride; head < row * rowStride + cols; head += 2 * pairs) {
        for (let pair = 0; pair < pairs; pair += 1) {
          const cos = this.#cos[angle + pair]!;
          const sin = this.#sin[angle + pair]! * direction;
          const a = data[head + pair]!;
          const b = data[head + pairs + pair]!;
          data[head + pair] = a * cos - b * sin;
          data[head + pairs + pair] = b * cos + a * sin;
        }
      }
    }
  }
}
