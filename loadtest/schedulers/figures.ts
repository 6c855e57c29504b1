import type { Rows } from '../rows.js';
import type { LoadResult } from '../serve/load.js';
import type { MixedPlan, MixedTimes } from '../serve/mixed-scenario.js';
import { gapsOf, meets, type Slo, ttftOf } from '../serve/slo.js';
import { distributionOf, median } from '../statistics.js';

/** Figures of one turn of one side, by name. */
export type Figures = Readonly<Record<string, number>>;

/** How one figure is shown. */
export interface FigureRow {
  readonly figure: string;
  readonly title: string;
  readonly unit: string;
  /** Compared with another figure of the same side, or with the same one of the reference. */
  readonly against?: { readonly own: string } | 'reference';
}

/** Of a scheduler that foresees the seconds of its steps; others have no such figures. */
const foreseenRows: readonly FigureRow[] = [
  { figure: 'prefillError', title: 'seconds of steps with prompts over foreseen ones', unit: 'of 1' },
  { figure: 'decodeError', title: 'seconds of steps without prompts over foreseen ones', unit: 'of 1' },
];

const idleGaps = 'TBT of the streams alone';
const busyGaps = 'TBT while prompts arrive';

const streamRows: readonly FigureRow[] = [
  { figure: 'idleP50', title: `${idleGaps}, p50`, unit: 'ms' },
  { figure: 'idleP99', title: `${idleGaps}, p99`, unit: 'ms' },
  { figure: 'busyP50', title: `${busyGaps}, p50`, unit: 'ms', against: { own: 'idleP50' } },
  { figure: 'busyP99', title: `${busyGaps}, p99`, unit: 'ms', against: { own: 'idleP99' } },
  { figure: 'busyMax', title: `${busyGaps}, max`, unit: 'ms', against: { own: 'idleP99' } },
  {
    figure: 'busyRate',
    title: 'tokens of the streams meanwhile',
    unit: 'tok/s',
    against: { own: 'idleRate' },
  },
  { figure: 'aloneP50', title: 'TTFT of a prompt alone, p50', unit: 'ms' },
  { figure: 'ttftP50', title: 'TTFT beside the streams, p50', unit: 'ms', against: 'reference' },
  { figure: 'ttftP95', title: 'TTFT beside the streams, p95', unit: 'ms', against: 'reference' },
];

export const mixedRows: readonly FigureRow[] = [...streamRows, ...foreseenRows];

/** Rows of what is asked of a server; where there are several plans, they and their figures are named after them. */
export function mixedRowsOf(plans: readonly MixedPlan[]): readonly FigureRow[] {
  return plans.length === 1 ? mixedRows : [...plans.flatMap(streamRowsOf), ...foreseenRows];
}

function streamRowsOf(plan: MixedPlan): FigureRow[] {
  const named = (figure: string) => `${figure} ${nameOf(plan)}`;
  return streamRows.map(({ figure, title, unit, against }) => ({
    figure: named(figure),
    title: `${title}, ${nameOf(plan)}`,
    unit,
    ...(against && { against: against === 'reference' ? against : { own: named(against.own) } }),
  }));
}

/** A plan's figures under names of their own. */
export function figuresOf(plan: MixedPlan, figures: Figures): Figures {
  return Object.fromEntries(
    Object.entries(figures).map(([figure, value]) => [`${figure} ${nameOf(plan)}`, value]),
  );
}

function nameOf({ streams, longPrompt }: MixedPlan): string {
  return `${streams} streams, prompts of ${longPrompt}`;
}

/** `streams` ran beside the prompts. */
export function mixedFigures(times: MixedTimes): Figures {
  const idle = distributionOf(times.idleGaps);
  const busy = distributionOf(times.busyGaps);
  const ttft = distributionOf(times.besideTtft);
  return {
    idleP50: idle.p50,
    idleP99: idle.p99,
    busyP50: busy.p50,
    busyP99: busy.p99,
    busyMax: busy.max,
    idleRate: (idle.count * 1000) / times.idleMs,
    busyRate: (busy.count * 1000) / times.busyMs,
    aloneP50: median(times.aloneTtft),
    ttftP50: ttft.p50,
    ttftP95: ttft.p95,
  };
}

export function traceRows(slo: Slo | undefined): readonly FigureRow[] {
  return [...clientRows(slo), ...foreseenRows];
}

/** What the simulator says of each figure that clients measured, compared with that: the ratio is its error. */
export function simulatedRows(slo: Slo | undefined): readonly FigureRow[] {
  return clientRows(slo).map(({ figure, title, unit }) => ({
    figure: simulated(figure),
    title: `${title}, simulated`,
    unit,
    against: { own: figure },
  }));
}

function simulated(figure: string): string {
  return `simulated ${figure}`;
}

function clientRows(slo: Slo | undefined): readonly FigureRow[] {
  const against = 'reference';
  return [
    { figure: 'ttftP50', title: 'TTFT p50', unit: 'ms', against },
    { figure: 'ttftP95', title: 'TTFT p95', unit: 'ms', against },
    { figure: 'tbtP50', title: 'TBT p50', unit: 'ms', against },
    { figure: 'tbtP99', title: 'TBT p99', unit: 'ms', against },
    { figure: 'e2eP50', title: 'E2E p50', unit: 'ms', against },
    { figure: 'e2eP95', title: 'E2E p95', unit: 'ms', against },
    { figure: 'throughput', title: 'throughput', unit: 'requests/s', against },
    ...(slo ? [{ figure: 'goodput', title: 'goodput', unit: 'requests/s', against } as const] : []),
  ];
}

/** Throws an Error with a server's answer if a request failed: a policy that refuses work is no faster for it. */
export function traceFigures({ traces, seconds }: LoadResult, slo: Slo | undefined): Figures {
  const failed = traces.find(({ error, pieceTimes }) => error !== undefined || pieceTimes.length === 0);
  if (failed) throw new Error(`a request of the trace failed: ${failed.error ?? 'it brought no text'}`);
  const ttft = distributionOf(traces.flatMap(ttftOf));
  const e2e = distributionOf(traces.map(({ dueAt, endedAt }) => endedAt - dueAt));
  const tbt = distributionOf(traces.flatMap(gapsOf));
  return {
    ttftP50: ttft.p50,
    ttftP95: ttft.p95,
    tbtP50: tbt.p50,
    tbtP99: tbt.p99,
    e2eP50: e2e.p50,
    e2eP95: e2e.p95,
    throughput: traces.length / seconds,
    ...(slo && { goodput: traces.filter((trace) => meets(trace, slo)).length / seconds }),
  };
}

/** The same of a replay that the simulator foresaw, under names of their own. */
export function simulatedFigures(foreseen: LoadResult, slo: Slo | undefined): Figures {
  return Object.fromEntries(
    Object.entries(traceFigures(foreseen, slo)).map(([figure, value]) => [simulated(figure), value]),
  );
}

/** Each figure's median over the turns. */
export function medians(turns: readonly Figures[]): Figures {
  return Object.fromEntries(
    Object.keys(turns[0]!).map((figure) => [figure, median(turns.map((turn) => turn[figure]!))]),
  );
}

/** A side's rows; `reference` is absent where it was not measured. */
export function addFigures(
  rows: Rows,
  side: string,
  shown: readonly FigureRow[],
  figures: Figures,
  reference: Figures | undefined,
): void {
  for (const { figure, title, unit, against } of shown) {
    const value = figures[figure];
    if (value === undefined) continue;
    const baseline =
      against === undefined
        ? null
        : against === 'reference'
          ? (reference?.[figure] ?? null)
          : figures[against.own]!;
    rows.add(`${side}: ${title}`, value, unit, baseline);
  }
}
