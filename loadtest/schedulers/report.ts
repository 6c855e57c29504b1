import { escapeHtml, renderChart, type Series } from '../report/chart.js';
import { renderPage } from '../report/page.js';
import { renderRowsTable } from '../report/rows-table.js';
import { colorCount } from '../report/style.js';
import type { Origin, Row } from '../rows.js';
import type { Figures } from './figures.js';

/** A side's place in the trade-off: what its prompts and its streams pay. */
export interface Point {
  readonly side: string;
  /** TTFT beside the streams over the reference's. */
  readonly ttftRatio: number;
  /** TBT p99 while prompts arrive over that of the streams alone. */
  readonly tbtRatio: number;
}

/** What the target of the project is: docs/results.md has the figures. */
const tbtBound = 1.5;

export function tradeOff(found: ReadonlyMap<string, Figures>, reference: Figures): Point[] {
  return Array.from(found, ([side, figures]) => ({
    side,
    ttftRatio: figures.ttftP50! / reference.ttftP50!,
    tbtRatio: figures.busyP99! / figures.idleP99!,
  }));
}

/** One HTML file that needs no other: the trade-off as a plot, and every figure as a table. */
export function renderTradeOff(points: readonly Point[], rows: readonly Row[], origin: Origin): string {
  const chart = renderChart({
    title: 'What prompts and streams pay for each other',
    about: `Nearer to the lower left corner is better. Dashed: ${tbtBound} times the time between tokens of the streams alone.`,
    xLabel: "TTFT beside the streams, times prefill-first's",
    yLabel: 'TBT p99 while prompts arrive, times alone',
    series: seriesOf(points),
    yScale: 'log',
    yBound: tbtBound,
    marks: true,
  });
  return renderPage(
    {
      title: 'Schedulers against each other',
      about: `Measured on ${escapeHtml(origin.machine)}. Each on a server of its own, in turns; medians over the turns.`,
      body: `<div class="figures">
${chart}
</div>
<h2>All figures</h2>
${renderRowsTable(rows)}`,
    },
    origin,
  );
}

/** A line through nexus at its slacks, and a point for each of the others. */
function seriesOf(points: readonly Point[]): Series[] {
  const groups = new Map<string, Point[]>();
  for (const point of points) {
    const name = point.side.startsWith('nexus, slack') ? 'nexus, each slack' : point.side;
    groups.set(name, [...(groups.get(name) ?? []), point]);
  }
  return Array.from(groups, ([name, members], index) => ({
    name,
    color: index % colorCount,
    points: members
      .map(({ ttftRatio, tbtRatio }) => [ttftRatio, tbtRatio] as const)
      .sort(([a], [b]) => a - b),
  }));
}
