import type { Row } from './rows.js';
import { alignColumns, readable } from './table.js';

/** The rows as a terminal shows them. */
export function formatRows(rows: readonly Row[]): string {
  const compared = rows.some(({ baseline }) => baseline !== null);
  const cells = rows.map(({ name, value, unit, baseline, ratio }) => [
    name,
    `${readable(value)} ${unit}`,
    ...(compared
      ? [baseline === null ? '' : readable(baseline), ratio === null ? '' : `${readable(ratio)}x`]
      : []),
  ]);
  const head = ['', 'value', ...(compared ? ['baseline', 'ratio'] : [])];
  return `${alignColumns([head, ...cells]).join('\n')}\n`;
}
