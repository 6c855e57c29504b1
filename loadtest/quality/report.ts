import { type Chart, escapeHtml, renderChart } from '../report/chart.js';
import { renderHeatMap } from '../report/heat-map.js';
import { renderPage } from '../report/page.js';
import { renderRowsTable } from '../report/rows-table.js';
import type { Origin, Row } from '../rows.js';
import { cellRow, pointsOf } from './figure-rows.js';
import type { ComparedFigures } from './measure.js';
import { accuracyChart, colorOf, divergenceChart, familiesOf, familyOf, heatMaps } from './plots.js';

/** Points of a line over the positions of a window. */
const stretches = 16;

/** One HTML file that needs no other: what each cache policy saves and what it costs. */
export function renderQuality(
  rows: readonly Row[],
  compared: readonly ComparedFigures[],
  windowTokens: number,
  origin: Origin,
): string {
  const charts = [accuracyChart(rows), divergenceChart(rows), overPositions(rows, compared, windowTokens)];
  const table = rows.filter(({ name }) => !cellRow.test(name));
  return renderPage(
    {
      title: 'What a KV cache costs in quality',
      about: `Measured on ${escapeHtml(origin.machine)}. Times are medians; a policy and the exact cache took turns.`,
      body: `<h2>Memory against quality</h2>
<div class="figures">
${charts.map((chart) => (chart ? renderChart(chart) : '')).join('\n')}
</div>
<h2>Finding a fact</h2>
<div class="figures">
${heatMaps(rows).map(renderHeatMap).join('\n')}
</div>
<h2>All figures</h2>
${renderRowsTable(table)}`,
    },
    origin,
  );
}

function overPositions(
  rows: readonly Row[],
  compared: readonly ComparedFigures[],
  windowTokens: number,
): Chart {
  const order = familiesOf(pointsOf(rows).map(({ policy }) => policy));
  const series = compared.map(({ policy, divergence }) => ({
    name: policy,
    color: colorOf(order.indexOf(familyOf(policy))),
    points: divergence.byPosition(Math.ceil(windowTokens / stretches)).filter(([, kl]) => kl > 0),
  }));
  return {
    title: 'Distance from the exact cache over a text',
    about: 'Whether errors add up as the cache fills.',
    xLabel: 'tokens in the cache',
    yLabel: 'KL divergence, millinats',
    yScale: 'log',
    marks: true,
    series,
  };
}
