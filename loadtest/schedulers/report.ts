import type { Origin, Row } from '../rows.js';
import { escapeHtml, renderChart, type Series } from '../simulate/report/chart.js';
import { colorCount, style } from '../simulate/report/style.js';
import { readable } from '../table.js';
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
export function renderTradeOff(
  points: readonly Point[],
  rows: readonly Row[],
  { command, commit, machine, date }: Origin,
): string {
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
  const lines = rows.map(({ name, value, unit, baseline, ratio }) => {
    const cells = [
      `${readable(value)} ${unit}`,
      baseline === null ? '' : readable(baseline),
      ratio === null ? '' : readable(ratio),
    ];
    return `<tr><td>${escapeHtml(name)}</td>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Schedulers against each other</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>Schedulers against each other</h1>
<p class="soft">Measured on ${escapeHtml(machine)}. Each on a server of its own, in turns; medians over the turns.</p>
<div class="command"><code>${escapeHtml(command)}</code><br>
<span class="soft">commit ${escapeHtml(commit)}, ${escapeHtml(date.slice(0, 16).replace('T', ' '))} UTC</span></div>
<div class="figures">
${chart}
</div>
<h2>All figures</h2>
<div class="wide"><table>
<tr><th></th><th>value</th><th>baseline</th><th>ratio</th></tr>
${lines.join('\n')}
</table></div>
</main>
</body>
</html>
`;
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
