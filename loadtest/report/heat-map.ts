import { readable } from '../table.js';
import { escapeHtml, standalone, width } from './chart.js';

export interface HeatMapChart {
  readonly title: string;
  readonly about: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** From 0 to 100; undefined leaves the cell empty. */
  readonly valueAt: (column: number, row: number) => number | undefined;
}

const left = 62;
const right = 6;
const cellHeight = 30;
const below = 42;

/** A coloured table of percents, as HTML with an inline SVG. */
export function renderHeatMap(chart: HeatMapChart): string {
  return `<figure>
<figcaption><b>${escapeHtml(chart.title)}</b> ${escapeHtml(chart.about)}</figcaption>
<svg class="bars" viewBox="0 0 ${width} ${heightOf(chart)}" role="img" aria-label="${escapeHtml(chart.title)}">
${drawCells(chart, width)}
</svg>
</figure>`;
}

/** Several of one shape as a file of its own, two beside each other. */
export function heatMapsSvg(title: string, charts: readonly HeatMapChart[]): string {
  const gap = 16;
  const own = (width - gap) / 2;
  const height = Math.max(...charts.map(heightOf)) + 30;
  const drawn = charts.map((chart, index) => {
    const [x, y] = [(index % 2) * (own + gap), Math.floor(index / 2) * height];
    return `<g transform="translate(${x} ${y})"><text class="name" x="${left}" y="12" style="font-weight:600">${escapeHtml(chart.title)}</text><g transform="translate(0 20)">
${drawCells(chart, own)}
</g></g>`;
  });
  return standalone(title, Math.ceil(charts.length / 2) * height, drawn.join('\n'));
}

function heightOf({ rows }: HeatMapChart): number {
  return rows.length * cellHeight + below;
}

function drawCells(chart: HeatMapChart, within: number): string {
  const { columns, rows, xLabel, yLabel, valueAt } = chart;
  const cellWidth = (within - left - right) / columns.length;
  const bottom = rows.length * cellHeight;
  const cells = rows.flatMap((row, r) =>
    columns.map((column, c) => {
      const value = valueAt(c, r);
      if (value === undefined) return '';
      const [x, y] = [left + c * cellWidth, r * cellHeight];
      return (
        // Never so dark that the number in it cannot be read.
        `<rect class="c2" fill-opacity="${(0.04 + (0.56 * value) / 100).toFixed(3)}" x="${x.toFixed(1)}" y="${y}" width="${(cellWidth - 2).toFixed(1)}" height="${cellHeight - 2}" rx="2">` +
        `<title>${escapeHtml(`${column}, ${row}: ${readable(value)}%`)}</title></rect>` +
        `<text class="name" x="${(x + cellWidth / 2 - 1).toFixed(1)}" y="${y + cellHeight / 2 - 1}" dy="0.32em" text-anchor="middle">${Math.round(value)}</text>`
      );
    }),
  );
  const rowLabels = rows.map(
    (row, r) =>
      `<text class="tick" x="${left - 8}" y="${r * cellHeight + cellHeight / 2 - 1}" dy="0.32em" text-anchor="end">${escapeHtml(row)}</text>`,
  );
  const columnLabels = columns.map(
    (column, c) =>
      `<text class="tick" x="${(left + (c + 0.5) * cellWidth - 1).toFixed(1)}" y="${bottom + 14}" text-anchor="middle">${escapeHtml(column)}</text>`,
  );
  return `${cells.join('\n')}
${rowLabels.join('')}${columnLabels.join('')}
<text class="label" x="${(left + within - right) / 2}" y="${bottom + 34}" text-anchor="middle">${escapeHtml(xLabel)}</text>
<text class="label" transform="translate(12 ${bottom / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(yLabel)}</text>`;
}
