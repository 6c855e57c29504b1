import type { Chart } from '../report/chart.js';
import type { Row, Rows } from '../rows.js';
import { median } from '../statistics.js';
import type { Sample } from './samples.js';

type Figure = Exclude<keyof Sample, 'minutes' | 'requests'>;

const figures: Readonly<Record<Figure, readonly [name: string, unit: string]>> = {
  residentMb: ['resident memory', 'MB'],
  heapMb: ["JavaScript's heap", 'MB'],
  openFiles: ['open files', 'files'],
  ttftP50: ['TTFT p50', 'ms'],
  ttftP99: ['TTFT p99', 'ms'],
  tbtP50: ['TBT p50', 'ms'],
  tbtP99: ['TBT p99', 'ms'],
};
const ofStreams: ReadonlySet<Figure> = new Set(['ttftP50', 'ttftP99', 'tbtP50', 'tbtP99']);
const compared: readonly Figure[] = ['residentMb', 'heapMb', 'openFiles', 'ttftP99', 'tbtP99'];

/** Rows that a plot shows. */
export const sampleRow = /^minute ([\d.]+): (.+)$/;

/** The last third over the second one, since caches fill in the first; then each sample, for the plots. */
export function addSoak(rows: Rows, samples: readonly Sample[], failures: number): void {
  const third = Math.floor(samples.length / 3);
  rows.add(
    'requests',
    samples.reduce((sum, { requests }) => sum + requests, 0),
    'requests',
  );
  rows.add('failures', failures, 'requests');
  for (const figure of compared) {
    const [name, unit] = figures[figure];
    const of = (part: readonly Sample[]) =>
      median(part.map((sample) => sample[figure]).filter(Number.isFinite));
    const [last, before] = [of(samples.slice(-third)), of(samples.slice(third, 2 * third))];
    // A short third may have brought no stream to its end.
    if (ofStreams.has(figure) && Number.isNaN(last + before)) continue;
    rows.add(`${name}, last third over the one before`, last, unit, before);
  }
  for (const sample of samples) {
    for (const [figure, [name, unit]] of Object.entries(figures)) {
      const value = sample[figure as Figure];
      // So may a stretch.
      if (Number.isFinite(value)) rows.add(`minute ${sample.minutes.toFixed(2)}: ${name}`, value, unit);
    }
  }
}

/** Memory and latency over time, of the rows that `addSoak` made. */
export function soakCharts(rows: readonly Row[]): Chart[] {
  const chart = (title: string, yLabel: string, shown: readonly Figure[]): Chart => ({
    title,
    about: '',
    xLabel: 'minutes',
    yLabel,
    xFromZero: true,
    series: shown.map((figure, color) => ({
      name: figures[figure][0],
      color,
      points: rows.flatMap(({ name, value }) => {
        const [, minutes, of] = sampleRow.exec(name) ?? [];
        return of === figures[figure][0] ? [[Number(minutes), value] as const] : [];
      }),
    })),
  });
  return [
    chart('Memory', 'MB', ['residentMb', 'heapMb']),
    chart('Time between tokens', 'ms', ['tbtP50', 'tbtP99']),
    chart('Time to first token', 'ms', ['ttftP50', 'ttftP99']),
    chart('Open files', 'files', ['openFiles']),
  ];
}
