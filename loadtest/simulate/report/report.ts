import { type Bars, type Chart, escapeHtml, renderBars, renderChart } from '../../report/chart.js';
import { renderPage } from '../../report/page.js';
import { colorCount } from '../../report/style.js';
import type { Origin } from '../../rows.js';
import type { Slo } from '../../serve/slo.js';
import { readable } from '../../table.js';
import type { RunSummary } from '../summary.js';

/** Runs that belong together: one load, and what was tried on it. */
export interface ReportSection {
  readonly title: string;
  readonly slo: Slo;
  readonly runs: readonly RunSummary[];
  /** Figures that are no run's: what a search has found. */
  readonly bars: readonly Bars[];
}

export interface Report {
  readonly title: string;
  /** What was simulated, in a few lines. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly sections: readonly ReportSection[];
}

/** One HTML file that needs no other: plots and tables, readable in the light and in the dark. */
export function renderReport({ title, facts, sections }: Report, origin: Origin): string {
  // A policy has one colour throughout.
  const labels = [...new Set(sections.flatMap(({ runs }) => runs.map(({ label }) => label)))];
  const about =
    "Virtual time on a simulated device. The scheduler is the real one, and does not know the device's constants.";
  const body = `<dl>${facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>
${sections.map((section) => renderSection(section, labels)).join('\n')}`;
  return renderPage({ title, about, body }, origin);
}

function renderSection({ title, slo, runs, bars }: ReportSection, labels: readonly string[]): string {
  const rates = [...new Set(runs.map(({ rate }) => rate))].sort((a, b) => a - b);
  const own = labels.filter((label) => runs.some((run) => run.label === label));
  const color = (label: string) => labels.indexOf(label) % colorCount;
  const charts = [
    ...(rates.length > 1 ? chartsOverRate(runs, own, color, slo) : []),
    ...(runs.length > 0 ? chartsAtRate(runs, color, rates) : []),
  ];
  const figures = [...bars.map(renderBars), ...charts.map(renderChart)];
  return `<h2>${escapeHtml(title)}</h2>
<div class="figures">
${figures.join('\n')}
</div>
${runs.length > 0 ? table(runs, own, rates) : ''}`;
}

function chartsOverRate(
  runs: readonly RunSummary[],
  labels: readonly string[],
  color: (label: string) => number,
  slo: Slo,
): Chart[] {
  const over = (value: (run: RunSummary) => number) =>
    labels.map((name) => ({
      name,
      color: color(name),
      points: runs
        .filter(({ label }) => label === name)
        .map((run) => [run.rate, value(run)] as const)
        .filter(([, y]) => Number.isFinite(y))
        .sort(([a], [b]) => a - b),
    }));
  const common = { xLabel: 'requests per second offered', marks: true };
  const latency = { ...common, yLabel: 'ms', yScale: 'log' } as const;
  const bound = (value: number | undefined) => (value === undefined ? {} : { yBound: value });
  return [
    {
      ...common,
      title: 'Goodput',
      about: 'requests per second that met their objectives',
      yLabel: 'requests per second',
      series: over(({ goodput }) => goodput),
    },
    {
      ...common,
      title: 'Objectives met',
      about: 'part of all requests',
      yLabel: 'part of 1',
      yMax: 1,
      series: over(({ attained }) => attained),
    },
    {
      ...latency,
      title: 'TTFT, median',
      about: 'time to the first token',
      series: over(({ ttft }) => ttft.p50),
      ...bound(slo.ttft),
    },
    {
      ...latency,
      title: 'TTFT, p95',
      about: 'time to the first token',
      series: over(({ ttft }) => ttft.p95),
      ...bound(slo.ttft),
    },
    {
      ...latency,
      title: 'TBT, median',
      about: 'time between tokens',
      series: over(({ tbt }) => tbt.p50),
      ...bound(slo.tbt),
    },
    {
      ...latency,
      title: 'TBT, p95',
      about: 'time between tokens',
      series: over(({ tbt }) => tbt.p95),
      ...bound(slo.tbt),
    },
    {
      ...latency,
      title: 'TPOT, p95',
      about: "mean time between a request's tokens",
      series: over(({ tpot }) => tpot.p95),
      ...bound(slo.tpot),
    },
    {
      ...common,
      title: 'Changes of the split',
      about: 'steps on another number of units than the one before',
      yLabel: 'changes',
      series: over(({ repartitions }) => repartitions),
    },
  ];
}

function chartsAtRate(
  runs: readonly RunSummary[],
  color: (label: string) => number,
  rates: readonly number[],
): Chart[] {
  // Where policies differ: the middle of the rates, when the device is neither idle nor swamped.
  const rate = rates[Math.floor(rates.length / 2)]!;
  const at = runs.filter((run) => run.rate === rate);
  return [
    {
      title: `TTFT at ${readable(rate)} requests per second`,
      about: 'part of the requests whose first token came within the time',
      xLabel: 'ms',
      yLabel: 'part of 1',
      xScale: 'log',
      series: at.map(({ label, ttftCdf }) => ({
        name: label,
        color: color(label),
        points: ttftCdf.map(({ value, share }) => [value, share] as const),
      })),
    },
    {
      title: `The split at ${readable(rate)} requests per second`,
      about: "prompts' part of the compute units while both phases run, over time",
      xLabel: 's',
      yLabel: 'part of 1',
      yMax: 1,
      series: at
        .filter(({ split }) => split.length > 1)
        .map(({ label, split }) => ({
          name: label,
          color: color(label),
          points: split.map(({ seconds, value }) => [seconds, value] as const),
        })),
    },
  ];
}

interface Column {
  readonly title: string;
  readonly value: (run: RunSummary) => number;
  readonly best?: 'low' | 'high';
}

const columns: readonly Column[] = [
  { title: 'req/s', value: ({ throughput }) => throughput, best: 'high' },
  { title: 'goodput', value: ({ goodput }) => goodput, best: 'high' },
  { title: 'met', value: ({ attained }) => attained, best: 'high' },
  { title: 'TTFT mean', value: ({ ttft }) => ttft.mean, best: 'low' },
  { title: 'p50', value: ({ ttft }) => ttft.p50, best: 'low' },
  { title: 'p95', value: ({ ttft }) => ttft.p95, best: 'low' },
  { title: 'p99', value: ({ ttft }) => ttft.p99, best: 'low' },
  { title: 'TBT mean', value: ({ tbt }) => tbt.mean, best: 'low' },
  { title: 'p50', value: ({ tbt }) => tbt.p50, best: 'low' },
  { title: 'p95', value: ({ tbt }) => tbt.p95, best: 'low' },
  { title: 'p99', value: ({ tbt }) => tbt.p99, best: 'low' },
  { title: 'E2E p50', value: ({ e2e }) => e2e.p50, best: 'low' },
  { title: 'units', value: ({ unitShare }) => unitShare },
  { title: 'KV peak', value: ({ kvPeak }) => kvPeak },
  { title: 'splits', value: ({ repartitions }) => repartitions },
  { title: 'preempted', value: ({ preemptions }) => preemptions },
  { title: 'devices', value: ({ devices }) => devices },
];

function table(runs: readonly RunSummary[], labels: readonly string[], rates: readonly number[]): string {
  const head = ['policy', 'rate', ...columns.map(({ title }) => title)].map((title) => `<th>${title}</th>`);
  const body = rates.flatMap((rate) => {
    const group = labels.flatMap((label) => runs.filter((run) => run.rate === rate && run.label === label));
    return group.map((run, index) => {
      const cells = columns.map(({ value, best }) => {
        const own = value(run);
        const all = group.map(value).filter(Number.isFinite);
        const isBest =
          best && group.length > 1 && own === (best === 'low' ? Math.min(...all) : Math.max(...all));
        return `<td${isBest ? ' class="best"' : ''}>${Number.isFinite(own) ? readable(own) : ''}</td>`;
      });
      const first = index === 0 ? ' class="first"' : '';
      return `<tr${first}><td>${escapeHtml(run.label)}</td><td>${readable(rate)}</td>${cells.join('')}</tr>`;
    });
  });
  return `<p class="soft">Times in ms. The best of a rate is marked.</p>
<div class="wide"><table><thead><tr>${head.join('')}</tr></thead><tbody>
${body.join('\n')}
</tbody></table></div>`;
}
