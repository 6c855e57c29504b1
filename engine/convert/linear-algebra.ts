import { CholeskyDecomposition, EigenvalueDecomposition, Matrix as Library } from 'ml-matrix';
import {
  beside,
  colBlock,
  compact,
  type Matrix,
  matrix,
  multiply,
  rowBlock,
  stack,
  subtract,
} from './matrix.js';

export interface Eigen {
  /** Ascending. */
  readonly values: Float64Array;
  /** Column i belongs to value i. */
  readonly vectors: Matrix;
}

/** Of a symmetric matrix. */
export function eigenSymmetric(m: Matrix): Eigen {
  const found = new EigenvalueDecomposition(toLibrary(m), { assumeSymmetric: true });
  const order = found.realEigenvalues
    .map((value, index) => ({ value, index }))
    .sort((a, b) => a.value - b.value);
  const vectors = matrix(m.rows, m.rows);
  for (const [col, { index }] of order.entries()) {
    for (let row = 0; row < m.rows; row += 1) {
      vectors.data[row * m.rows + col] = found.eigenvectorMatrix.get(row, index);
    }
  }
  return { values: Float64Array.from(order, ({ value }) => value), vectors };
}

/** Below this the library's own loops do well; above it most of the work is in products. */
const solvedWhole = 64;

/** x of a x = b, for a symmetric and positive definite `a`. Throws an Error if it is not. */
export function solveSymmetric(a: Matrix, b: Matrix): Matrix {
  const size = a.rows;
  if (size <= solvedWhole) return solveWhole(a, b);
  // By halves: the upper half of x is eliminated (Schur complement), then follows from the lower one.
  const upper = size >> 1;
  const lower = size - upper;
  const left = colBlock(rowBlock(a, upper, lower), 0, upper);
  const solved = solveSymmetric(
    colBlock(rowBlock(a, 0, upper), 0, upper),
    beside([colBlock(rowBlock(a, 0, upper), upper, lower), rowBlock(b, 0, upper)]),
  );
  const eliminated = colBlock(solved, 0, lower);
  const x1 = colBlock(solved, lower, b.cols);
  const rest = compact(colBlock(rowBlock(a, upper, lower), upper, lower));
  const below = compact(rowBlock(b, upper, lower));
  subtract(rest, multiply(left, eliminated));
  subtract(below, multiply(left, x1));
  const x2 = solveSymmetric(rest, below);
  const top = compact(x1);
  subtract(top, multiply(eliminated, x2));
  return stack([top, x2]);
}

function solveWhole(a: Matrix, b: Matrix): Matrix {
  const symmetric = toLibrary(a);
  // The library wants it to the last bit.
  for (let row = 0; row < a.rows; row += 1) {
    for (let col = 0; col < row; col += 1) {
      const mean = (symmetric.get(row, col) + symmetric.get(col, row)) / 2;
      symmetric.set(row, col, mean).set(col, row, mean);
    }
  }
  const factors = new CholeskyDecomposition(symmetric);
  if (!factors.isPositiveDefinite()) throw new Error('the equations have no single solution');
  return fromLibrary(factors.solve(toLibrary(b)));
}

function toLibrary(m: Matrix): Library {
  const { data, rows, cols } = compact(m);
  return new Library(Array.from({ length: rows }, (_, row) => data.subarray(row * cols, (row + 1) * cols)));
}

function fromLibrary(m: Library): Matrix {
  const out = matrix(m.rows, m.columns);
  for (let row = 0; row < m.rows; row += 1) {
    for (let col = 0; col < m.columns; col += 1) out.data[row * m.columns + col] = m.get(row, col);
  }
  return out;
}
