import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { keptChart, speedUpChart } from '../prefill/plots.js';
import { accuracyChart, divergenceChart, heatMaps } from '../quality/plots.js';
import { type Bars, barsSvg, type Chart, chartSvg } from '../report/chart.js';
import { heatMapsSvg } from '../report/heat-map.js';
import { parseRows, type Row } from '../rows.js';
import { soakCharts } from '../soak/figures.js';

/** Plots of docs/nexus.md and docs/results.md by file name: each a drawing of committed rows, so none says what was not measured. */
export function renderPlots(folder: string): ReadonlyMap<string, string> {
  const plots = new Map<string, string>();
  const add = (
    name: string,
    files: string | readonly string[],
    draw: (rows: readonly Row[]) => string | undefined,
  ) => {
    const there = [files].flat().filter((file) => existsSync(path.join(folder, file)));
    if (there.length === 0) return;
    const svg = draw(there.flatMap((file) => parseRows(file, readFileSync(path.join(folder, file), 'utf8'))));
    if (svg !== undefined) plots.set(name, svg);
  };
  add('simulated-rates.svg', 'simulate-paper.json', (rows) => barsSvg(carriedRates(rows)));
  add('simulated-ablation.svg', 'simulate-ablation.json', (rows) => barsSvg(ablation(rows)));
  const chart = (draw: (rows: readonly Row[]) => Chart | undefined) => (rows: readonly Row[]) => {
    const drawn = draw(rows);
    return drawn && chartSvg(drawn);
  };
  add('trade-off.svg', 'schedulers.json', chart(tradeOff));
  add('trade-off-slack.svg', 'schedulers-slack.json', chart(tradeOff));
  add('quality-answers.svg', 'quality.json', chart(accuracyChart));
  add('quality-divergence.svg', 'quality.json', chart(divergenceChart));
  const soak = (index: number) => (rows: readonly Row[]) => {
    const drawn = soakCharts(rows)[index]!;
    return drawn.series.some(({ points }) => points.length > 0) ? drawn : undefined;
  };
  add('soak-memory.svg', 'soak.json', chart(soak(0)));
  add('soak-tbt.svg', 'soak.json', chart(soak(1)));
  add('soak-ttft.svg', 'soak.json', chart(soak(2)));
  add('quality-maps.svg', 'quality.json', (rows) => {
    const maps = heatMaps(rows);
    return maps.length === 0 ? undefined : heatMapsSvg('Right answers by context and depth, %', maps);
  });
  const prompts = ['prefill-demo.json', 'prefill-1b-16k.json', 'prefill-1b-32k.json'];
  add('prefill-speed-up.svg', prompts, chart(speedUpChart));
  add('prefill-kept.svg', 'prefill-demo.json', chart(keptChart));
  return plots;
}

const shown = ['chunked spf', 'reactive spf', 'nexus spf'];

/** Rate carried within the bound on the mean time per token, over that of `chunked` in order of arrival. */
function carriedRates(rows: readonly Row[]): Bars {
  const bars = rows.flatMap(({ name, ratio }) => {
    const [, setup, label] = /^(.+?): (.+), rate carried at .*TPOT/.exec(name) ?? [];
    const color = shown.indexOf(label ?? '');
    return color < 0 || ratio === null ? [] : [{ name: `${setup}: ${label}`, value: ratio, color }];
  });
  return {
    title: 'Rate carried over chunked fcfs, equal objectives (simulated L20)',
    about: '',
    bars,
  };
}

function ablation(rows: readonly Row[]): Bars {
  const bars = rows.flatMap(({ name, ratio }) => {
    const [, label] = /^(.+), rate carried$/.exec(name) ?? [];
    return label === undefined || ratio === null
      ? []
      : [{ name: label, value: ratio, color: label === 'nexus' ? 2 : 6 }];
  });
  return {
    title: 'Rate carried, over nexus with all its parts (simulated)',
    about: '',
    bars,
  };
}

/** What streams and prompts pay under each scheduler on a real device, nexus at several slacks. */
function tradeOff(rows: readonly Row[]): Chart | undefined {
  const ttft = ratiosOf(rows, /^(.+): TTFT beside the streams, p50$/);
  const tbt = ratiosOf(rows, /^(.+): TBT while prompts arrive, p99$/);
  const sides = [...tbt.keys()].filter((side) => ttft.has(side));
  if (sides.length === 0) return undefined;
  const groups = new Map<string, (readonly [number, number])[]>();
  for (const side of sides) {
    const group = side.startsWith('nexus') ? 'nexus, by slack' : side;
    groups.set(group, [...(groups.get(group) ?? []), [ttft.get(side)!, tbt.get(side)!] as const]);
  }
  return {
    title: 'What prompts and streams pay for each other (measured)',
    about: '',
    xLabel: "TTFT of long prompts, times prefill-first's",
    yLabel: 'TBT p99 meanwhile, times alone',
    yScale: 'log',
    yBound: 1.5,
    marks: true,
    series: Array.from(groups, ([name, points], color) => ({
      name,
      color,
      points: points.sort(([a], [b]) => a - b),
    })),
  };
}

function ratiosOf(rows: readonly Row[], pattern: RegExp): Map<string, number> {
  const found = new Map<string, number>();
  for (const { name, ratio } of rows) {
    const side = pattern.exec(name)?.[1];
    if (side !== undefined && ratio !== null) found.set(side, ratio);
  }
  return found;
}
