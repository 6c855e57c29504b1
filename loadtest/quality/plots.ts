import type { Chart, Series } from '../report/chart.js';
import type { HeatMapChart } from '../report/heat-map.js';
import { colorCount } from '../report/style.js';
import type { Row } from '../rows.js';
import { readable } from '../table.js';
import { cellsOf, type PolicyPoint, pointsOf } from './figure-rows.js';
import { paretoFront } from './pareto.js';

/** Not one of the first colours, which the policies have. */
const frontColor = 6;

/** Bytes of a token against right answers; undefined where no rows say both. */
export function accuracyChart(rows: readonly Row[]): Chart | undefined {
  const points = pointsOf(rows);
  if (points.length === 0) return undefined;
  return {
    ...common,
    title: 'Right answers for the bytes',
    about: 'Nearer to the upper left corner is better. The line joins those that no other beats.',
    yLabel: 'right answers, %',
    yMax: 100,
    series: seriesOf(points, ({ accuracy }) => accuracy, 'more'),
  };
}

/** Bytes of a token against KL divergence; undefined where there is nothing beside the exact cache. */
export function divergenceChart(rows: readonly Row[]): Chart | undefined {
  const points = pointsOf(rows);
  if (!points.some(({ kl }) => kl)) return undefined;
  return {
    ...common,
    title: 'Distance from the exact cache for the bytes',
    about: 'Nearer to the lower left corner is better. The exact cache has no distance and is not shown.',
    yLabel: 'KL divergence, millinats',
    yScale: 'log',
    series: seriesOf(points, (point) => (point.kl ? point.kl : undefined), 'less'),
  };
}

const common = { xLabel: 'bytes of KV for a token', xFromZero: true, marks: true } as const;

function seriesOf(
  points: readonly PolicyPoint[],
  value: (point: PolicyPoint) => number | undefined,
  better: 'more' | 'less',
): Series[] {
  const offers = points.flatMap((point) => {
    const y = value(point);
    if (y === undefined) return [];
    return [{ ...point, y, cost: point.bytesPerToken, worth: better === 'more' ? y : -y }];
  });
  const families = familiesOf(points.map(({ policy }) => policy));
  const front: Series = {
    name: 'no other is smaller and better',
    color: frontColor,
    points: paretoFront(offers).map(({ cost, y }) => [cost, y] as const),
  };
  // The points on top of the line.
  return [
    front,
    ...families.map((family, index) => ({
      name: family,
      color: colorOf(index),
      points: offers
        .filter(({ policy }) => familyOf(policy) === family)
        .sort((a, b) => a.cost - b.cost)
        .map(({ cost, y }) => [cost, y] as const),
    })),
  ].filter((series) => series.points.length > 0);
}

/** Policies that differ in a number only are of one family: `zip-0.9` of `zip`. */
export function familyOf(policy: string): string {
  return policy.replace(/-[\d.]+$/, '');
}

/** In the order in which they come. */
export function familiesOf(policies: readonly string[]): string[] {
  return [...new Set(policies.map(familyOf))];
}

/** The colour of the family with this index, throughout a report. */
export function colorOf(index: number): number {
  const color = index % (colorCount - 1);
  return color >= frontColor ? color + 1 : color;
}

/** Right answers by context and depth, one map for each policy. */
export function heatMaps(rows: readonly Row[]): HeatMapChart[] {
  const overall = new Map(pointsOf(rows).map(({ policy, accuracy }) => [policy, accuracy]));
  return Array.from(cellsOf(rows), ([policy, cells]) => {
    const contexts = [...new Set(cells.map(({ context }) => context))].sort((a, b) => a - b);
    const depths = [...new Set(cells.map(({ depth }) => depth))].sort((a, b) => a - b);
    const all = overall.get(policy);
    return {
      title: all === undefined ? policy : `${policy}: ${readable(all)}%`,
      about: 'right answers, %',
      xLabel: 'context, tokens',
      yLabel: 'depth of the fact',
      columns: contexts.map(String),
      rows: depths.map((depth) => `${depth}%`),
      valueAt: (column, row) =>
        cells.find(({ context, depth }) => context === contexts[column] && depth === depths[row])?.value,
    };
  });
}
