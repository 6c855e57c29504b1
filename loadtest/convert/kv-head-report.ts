import type { KvHeadReport } from '../../engine/convert/index.js';
import { type Chart, escapeHtml, renderBars, renderChart, type Series } from '../report/chart.js';
import { renderPage } from '../report/page.js';
import { renderRowsTable } from '../report/rows-table.js';
import type { Origin, Row } from '../rows.js';
import { readable } from '../table.js';

const methodNames = { svd: 'closed form', fit: 'fitted', mean: 'mean', taken: 'taken' } as const;
type Method = keyof typeof methodNames;

/** One HTML file that needs no other: what was shared, and what it cost in each layer. */
export function renderKvHeads(rows: readonly Row[], report: KvHeadReport, origin: Origin): string {
  const { heads, kvHeads, perplexity, originalPerplexity, tokens } = report;
  return renderPage(
    {
      title: `${kvHeads} KV heads for ${heads} heads`,
      about:
        `Calibrated on ${tokens.toLocaleString('en-US')} tokens; figures are of the quarter of them that no fit has ` +
        `seen. Perplexity ${readable(perplexity)}, before ${readable(originalPerplexity)}.`,
      body: `<h2>What is lost, layer by layer</h2>
<div class="figures">
${renderChart(attentionChart(report))}
${renderChart(outputChart(report))}
${renderBars({
  title: 'Values that are lost',
  about: "Percent of the heads' values, as far as the layer's output shows them.",
  bars: report.layers.map(({ valueLoss }, layer) => ({
    name: `layer ${layer}`,
    value: 100 * valueLoss,
    color: 2,
  })),
})}
</div>
<h2>Who shares with whom</h2>
${groupTable(report)}
<h2>All figures</h2>
${renderRowsTable(rows)}`,
    },
    origin,
  );
}

function attentionChart({ layers }: KvHeadReport): Chart {
  const line = (method: Method, color: number): Series => ({
    name: methodNames[method],
    color,
    points: layers.flatMap(({ attention }, layer) => {
      const value = attention[method];
      return value === undefined ? [] : [[layer, value] as const];
    }),
  });
  return {
    title: "Distance of attention from the original's",
    about: 'Of shared keys, by how they were found. Each group of heads takes the better.',
    xLabel: 'layer',
    yLabel: 'KL divergence, millinats',
    marks: true,
    series: [line('mean', 3), line('svd', 0), line('fit', 1)],
  };
}

function outputChart({ layers }: KvHeadReport): Chart {
  return {
    title: "Error of attention's output",
    about: 'With what earlier layers did wrong, before and after the output projection is fitted.',
    xLabel: 'layer',
    yLabel: '% of its energy',
    marks: true,
    series: [
      {
        name: 'as merged',
        color: 0,
        points: layers.map(({ outputError }, layer) => [layer, 100 * outputError]),
      },
      {
        name: 'fitted',
        color: 1,
        points: layers.flatMap(({ fittedOutputError }, layer) =>
          fittedOutputError === undefined ? [] : [[layer, 100 * fittedOutputError] as const],
        ),
      },
    ],
  };
}

function groupTable({ layers }: KvHeadReport): string {
  const lines = layers.map(({ groups, keys }, layer) => {
    const cells = groups.map((heads, group) => `${heads.join(' + ')} (${methodNames[keys[group]!]})`);
    return `<tr><td>${layer}</td><td>${escapeHtml(cells.join(', '))}</td></tr>`;
  });
  return `<div class="wide"><table>
<tr><th>layer</th><th>heads with one key and value, and how the key was found</th></tr>
${lines.join('\n')}
</table></div>`;
}
