import { escapeHtml, renderChart } from '../report/chart.js';
import { renderPage } from '../report/page.js';
import { renderRowsTable } from '../report/rows-table.js';
import type { Origin, Row } from '../rows.js';
import { sampleRow, soakCharts } from './figures.js';

/** One HTML file: memory, latency and open files over the time of a soak. */
export function renderSoak(rows: readonly Row[], origin: Origin): string {
  return renderPage(
    {
      title: 'A soak',
      about: `Measured on ${escapeHtml(origin.machine)}.`,
      body: `<div class="figures">
${soakCharts(rows).map(renderChart).join('\n')}
</div>
${renderRowsTable(rows.filter(({ name }) => !sampleRow.test(name)))}`,
    },
    origin,
  );
}
