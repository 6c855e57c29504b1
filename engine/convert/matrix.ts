import { multiplyMatrices } from '../device/native.js';

/**
 * A matrix in float64. Element (row, col) stands at `data[row * rowStride + col * colStride]`, so a transposed matrix
 * or a block of rows or columns is a view of the same numbers.
 */
export interface Matrix {
  readonly data: Float64Array;
  readonly rows: number;
  readonly cols: number;
  readonly rowStride: number;
  readonly colStride: number;
}

export function matrix(
  rows: number,
  cols: number,
  data: Float64Array = new Float64Array(rows * cols),
): Matrix {
  return { data, rows, cols, rowStride: cols, colStride: 1 };
}

export function identity(size: number): Matrix {
  const out = matrix(size, size);
  for (let at = 0; at < size; at += 1) out.data[at * (size + 1)] = 1;
  return out;
}

export function transposed({ data, rows, cols, rowStride, colStride }: Matrix): Matrix {
  return { data, rows: cols, cols: rows, rowStride: colStride, colStride: rowStride };
}

/** The rows [begin, begin + count). */
export function rowBlock(m: Matrix, begin: number, count: number): Matrix {
  return { ...m, data: m.data.subarray(begin * m.rowStride), rows: count };
}

/** The columns [begin, begin + count). */
export function colBlock(m: Matrix, begin: number, count: number): Matrix {
  return { ...m, data: m.data.subarray(begin * m.colStride), cols: count };
}

/** a b, in a new matrix, or in `into`, or added to it. */
export function multiply(
  a: Matrix,
  b: Matrix,
  { into = matrix(a.rows, b.cols), add = false }: { into?: Matrix; add?: boolean } = {},
): Matrix {
  if (a.cols !== b.rows || into.rows !== a.rows || into.cols !== b.cols || into.colStride !== 1) {
    throw new RangeError(
      `[${a.rows}, ${a.cols}] x [${b.rows}, ${b.cols}] does not fit into [${into.rows}, ${into.cols}]`,
    );
  }
  multiplyMatrices(
    {
      rows: a.rows,
      cols: b.cols,
      depth: a.cols,
      aRowStride: a.rowStride,
      aColStride: a.colStride,
      bRowStride: b.rowStride,
      bColStride: b.colStride,
      outStride: into.rowStride,
      add,
    },
    a.data,
    b.data,
    into.data,
  );
  return into;
}

/** The same numbers in rows without gaps. */
export function compact(m: Matrix): Matrix {
  const out = matrix(m.rows, m.cols);
  copyInto(out, m);
  return out;
}

export function copyInto(to: Matrix, from: Matrix): void {
  for (let row = 0; row < from.rows; row += 1) {
    for (let col = 0; col < from.cols; col += 1) {
      to.data[row * to.rowStride + col * to.colStride] =
        from.data[row * from.rowStride + col * from.colStride]!;
    }
  }
}

/** Below each other; all have as many columns. */
export function stack(parts: readonly Matrix[]): Matrix {
  const out = matrix(
    parts.reduce((sum, { rows }) => sum + rows, 0),
    parts[0]!.cols,
  );
  let row = 0;
  for (const part of parts) {
    copyInto(rowBlock(out, row, part.rows), part);
    row += part.rows;
  }
  return out;
}

/** Beside each other; all have as many rows. */
export function beside(parts: readonly Matrix[]): Matrix {
  return transposed(stack(parts.map(transposed)));
}

/** Of a matrix without gaps. */
export function scale(m: Matrix, factor: number): Matrix {
  return matrix(
    m.rows,
    m.cols,
    m.data.map((value) => value * factor),
  );
}

/** Both without gaps. */
export function subtract(from: Matrix, m: Matrix): void {
  for (let at = 0; at < from.data.length; at += 1) from.data[at]! -= m.data[at]!;
}

/** Both without gaps. */
export function addTo(sum: Matrix, m: Matrix): void {
  for (let at = 0; at < sum.data.length; at += 1) sum.data[at]! += m.data[at]!;
}

export function sumOfSquares(m: Matrix): number {
  let sum = 0;
  for (let row = 0; row < m.rows; row += 1) {
    for (let col = 0; col < m.cols; col += 1) sum += m.data[row * m.rowStride + col * m.colStride]! ** 2;
  }
  return sum;
}
