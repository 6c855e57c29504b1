import type { Chart, Series } from '../report/chart.js';
import { colorCount } from '../report/style.js';
import type { Row } from '../rows.js';
import { layerRow, speedUpsOf } from './figure-rows.js';

/** Speed-up by how much is attended to, a line for each length; undefined where no rows say. */
export function speedUpChart(rows: readonly Row[]): Chart | undefined {
  const byLength = new Map<string, (readonly [number, number])[]>();
  for (const { length, attended, ratio } of speedUpsOf(rows)) {
    const name = `${length} tokens`;
    byLength.set(name, [...(byLength.get(name) ?? [[100, 1]]), [attended, ratio]]);
  }
  if (byLength.size === 0) return undefined;
  return {
    title: 'Speed-up of sparse prefill',
    about: 'Dense prefill is at 100% and 1.',
    xLabel: 'tokens that rows attend to, % of those before them',
    yLabel: 'rate over that of dense prefill',
    xFromZero: true,
    marks: true,
    series: seriesOf(byLength),
  };
}

/** Which part of the older pages each layer looks at, a line for each tau, of the longest prompt. */
export function keptChart(rows: readonly Row[]): Chart | undefined {
  const found = rows.flatMap(({ name, value }) => {
    const [, length, tau, layer] = layerRow.exec(name) ?? [];
    return length === undefined
      ? []
      : [{ length: Number(length), tau: `tau ${tau}`, layer: Number(layer), value }];
  });
  if (found.length === 0) return undefined;
  const longest = Math.max(...found.map(({ length }) => length));
  const byTau = new Map<string, (readonly [number, number])[]>();
  for (const { length, tau, layer, value } of found) {
    if (length === longest) byTau.set(tau, [...(byTau.get(tau) ?? []), [layer, value]]);
  }
  return {
    title: `Older pages that rows look at, by layer, prompts of ${longest} tokens`,
    about: '',
    xLabel: 'layer',
    yLabel: 'of the older pages, %',
    xFromZero: true,
    yMax: 100,
    marks: true,
    series: seriesOf(byTau),
  };
}

function seriesOf(lines: ReadonlyMap<string, readonly (readonly [number, number])[]>): Series[] {
  return Array.from(lines, ([name, points], index) => ({
    name,
    color: index % colorCount,
    points: [...points].sort(([a], [b]) => a - b),
  }));
}
