import { solveSymmetric } from './linear-algebra.js';
import { type Matrix, matrix, multiply, subtract, sumOfSquares, transposed } from './matrix.js';

/** What the projection o gets and what it should make of it, of one window. */
export interface OutputSample {
  /** [tokens, heads * headDim] */
  readonly features: Matrix;
  /** [tokens, hidden] */
  readonly target: Matrix;
}

/** Of the features' mean energy: keeps directions that the text hardly shows where they are. */
const ridge = 1e-3;

/** The part of the target's energy that the projection misses. */
export function outputError(o: Matrix, samples: readonly OutputSample[]): number {
  let missed = 0;
  let all = 0;
  for (const { features, target } of samples) {
    missed += sumOfSquares(residual(o, features, target));
    all += sumOfSquares(target);
  }
  return all > 0 ? missed / all : 0;
}

/** The projection near `o` that is best in the sense of least squares. */
export function fitOutput(o: Matrix, samples: readonly OutputSample[]): Matrix {
  const width = o.cols;
  const moments = matrix(width, width);
  const wanted = matrix(width, o.rows);
  for (const { features, target } of samples) {
    multiply(transposed(features), features, { into: moments, add: true });
    multiply(transposed(features), residual(o, features, target), { into: wanted, add: true });
  }
  let trace = 0;
  for (let at = 0; at < width; at += 1) trace += moments.data[at * (width + 1)]!;
  if (trace === 0) return o;
  for (let at = 0; at < width; at += 1) moments.data[at * (width + 1)]! += (ridge * trace) / width;
  const change = transposed(solveSymmetric(moments, wanted));
  const out = matrix(o.rows, width);
  for (let row = 0; row < o.rows; row += 1) {
    for (let col = 0; col < width; col += 1) {
      out.data[row * width + col] =
        o.data[row * o.rowStride + col * o.colStride]! +
        change.data[row * change.rowStride + col * change.colStride]!;
    }
  }
  return out;
}

function residual(o: Matrix, features: Matrix, target: Matrix): Matrix {
  const rest = multiply(features, transposed(o));
  subtract(rest, target);
  for (let at = 0; at < rest.data.length; at += 1) rest.data[at] = -rest.data[at]!;
  return rest;
}
