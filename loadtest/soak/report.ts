import { type Chart, escapeHtml, renderChart } from '../report/chart.js';
import { renderPage } from '../report/page.js';
import { renderRowsTable } from '../report/rows-table.js';
import type { Origin, Row } from '../rows.js';
import type { Sample } from './samples.js';

/** One HTML file: memory, open files and latency over the time of a soak. */
export function renderSoak(samples: readonly Sample[], rows: readonly Row[], origin: Origin): string {
  const chart = (
    title: string,
    yLabel: string,
    lines: readonly (readonly [name: string, of: (sample: Sample) => number])[],
  ): Chart => ({
    title,
    about: '',
    xLabel: 'minutes',
    yLabel,
    xFromZero: true,
    series: lines.map(([name, of], color) => ({
      name,
      color,
      points: samples.flatMap((sample) => {
        const value = of(sample);
        return Number.isFinite(value) ? [[sample.minutes, value] as const] : [];
      }),
    })),
  });
  const charts = [
    chart('Memory', 'MB', [
      ['resident', ({ residentMb }) => residentMb],
      ["JavaScript's heap", ({ heapMb }) => heapMb],
    ]),
    chart('Time between tokens', 'ms', [
      ['p50', ({ tbtP50 }) => tbtP50],
      ['p99', ({ tbtP99 }) => tbtP99],
    ]),
    chart('Time to first token', 'ms', [
      ['p50', ({ ttftP50 }) => ttftP50],
      ['p99', ({ ttftP99 }) => ttftP99],
    ]),
    chart('Open files', '', [['files', ({ openFiles }) => openFiles]]),
  ];
  return renderPage(
    {
      title: 'A soak',
      about: `Measured on ${escapeHtml(origin.machine)}.`,
      body: `<div class="figures">
${charts.map(renderChart).join('\n')}
</div>
${renderRowsTable(rows)}`,
    },
    origin,
  );
}
