import type { Rows } from '../rows.js';
import type { Distribution } from '../statistics.js';

/** p50, p99 and max of times between tokens, or to the first one, each against the same of `idle`. */
export function addGaps(rows: Rows, name: string, gaps: Distribution, idle?: Distribution): void {
  rows.add(`${name}, p50`, gaps.p50, 'ms', idle?.p50 ?? null);
  rows.add(`${name}, p99`, gaps.p99, 'ms', idle?.p99 ?? null);
  rows.add(`${name}, max`, gaps.max, 'ms', idle?.max ?? null);
}
