import { type Matrix, matrix, rowBlock, stack } from '../../engine/convert/index.js';

const rounds = 8;
const sweeps = 100;

/** Rows of a matrix without gaps, in a new one. */
export function pickRows(m: Matrix, rows: readonly number[]): Matrix {
  return stack(rows.map((row) => rowBlock(m, row, 1)));
}

/** Mean of the rows of a matrix without gaps: [1, cols]. */
export function meanRow(m: Matrix): Matrix {
  const mean = matrix(1, m.cols);
  for (let at = 0; at < m.rows * m.cols; at++) mean.data[at % m.cols]! += m.data[at]! / m.rows;
  return mean;
}

/** k-means: the rows of each cluster, of which none is empty; at most `count`. The first centers lie as far apart as can be. */
export function clusters(points: Matrix, count: number): number[][] {
  const all = Array.from({ length: points.rows }, (_, row) => row);
  const nearest = (centers: readonly Matrix[], row: number): { center: number; distance: number } => {
    let best = { center: 0, distance: Number.POSITIVE_INFINITY };
    for (const [center, { data }] of centers.entries()) {
      let distance = 0;
      for (let col = 0; col < points.cols; col++)
        distance += (points.data[row * points.cols + col]! - data[col]!) ** 2;
      if (distance < best.distance) best = { center, distance };
    }
    return best;
  };
  const farthest = (centers: readonly Matrix[]): Matrix => {
    const distances = all.map((row) => nearest(centers, row).distance);
    return pickRows(points, [distances.indexOf(Math.max(...distances))]);
  };
  let centers = [farthest([meanRow(points)])];
  while (centers.length < count) centers.push(farthest(centers));
  let members: number[][] = [];
  for (let round = 0; round < rounds; round++) {
    members = centers.map(() => []);
    for (const row of all) members[nearest(centers, row).center]!.push(row);
    members = members.filter((rows) => rows.length > 0);
    centers = members.map((rows) => meanRow(pickRows(points, rows)));
  }
  return members;
}

/** x >= 0 of least x g x - 2 x b, for a symmetric `gram` with a positive diagonal: coordinate by coordinate. */
export function nonNegativeWeights(gram: Matrix, b: Float64Array): Float64Array {
  const x = new Float64Array(b.length);
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let row = 0; row < x.length; row++) {
      let rest = b[row]!;
      for (let col = 0; col < x.length; col++)
        if (col !== row) rest -= gram.data[row * gram.cols + col]! * x[col]!;
      x[row] = Math.max(0, rest / (gram.data[row * (gram.cols + 1)]! + 1e-12));
    }
  }
  return x;
}
