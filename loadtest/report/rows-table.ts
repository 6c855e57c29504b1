import type { Row } from '../rows.js';
import { readable } from '../table.js';
import { escapeHtml } from './chart.js';

/** Every row of a run as an HTML table. */
export function renderRowsTable(rows: readonly Row[]): string {
  const lines = rows.map(({ name, value, unit, baseline, ratio }) => {
    const cells = [
      `${readable(value)} ${unit}`,
      baseline === null ? '' : readable(baseline),
      ratio === null ? '' : readable(ratio),
    ];
    return `<tr><td>${escapeHtml(name)}</td>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
  });
  return `<div class="wide"><table>
<tr><th></th><th>value</th><th>baseline</th><th>ratio</th></tr>
${lines.join('\n')}
</table></div>`;
}
