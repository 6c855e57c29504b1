import { readable } from '../table.js';
import { style } from './style.js';

export interface Series {
  readonly name: string;
  /** Index of its colour. */
  readonly color: number;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Chart {
  readonly title: string;
  readonly about: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  readonly xScale?: 'linear' | 'log';
  /** Whether a linear x axis begins at 0, as a linear y axis does. */
  readonly xFromZero?: boolean;
  readonly yScale?: 'linear' | 'log';
  /** Upper end of the y axis; the largest value if absent. */
  readonly yMax?: number;
  /** A value that is not to be passed, drawn across. */
  readonly yBound?: number;
  readonly marks?: boolean;
}

/** Of every drawing, in its own units. */
export const width = 560;
const height = 300;
const left = 62;
const right = 14;
const top = 12;
const bottom = 42;

/** A figure with a line for each series, as HTML with an inline SVG. */
export function renderChart(chart: Chart): string {
  const drawn = drawnSeries(chart);
  if (drawn.length === 0) return '';
  const legend = drawn.map(
    ({ name, color }) => `<span class="key"><i class="c${color}"></i>${escapeHtml(name)}</span>`,
  );
  return `<figure>
<figcaption><b>${escapeHtml(chart.title)}</b> ${escapeHtml(chart.about)}</figcaption>
<div class="legend">${legend.join('')}</div>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(chart.title)}">
${drawChart(chart)}
</svg>
</figure>`;
}

/** The same as a file of its own: title and legend are part of the drawing. */
export function chartSvg(chart: Chart): string {
  const legend = drawnSeries(chart).map(({ name, color }, index) => {
    const y = height + 14 + 18 * index;
    return `<path class="line c${color}" d="M${left} ${y}h16"/><circle class="c${color}" cx="${left + 8}" cy="${y}" r="3.2"/><text class="name" x="${left + 24}" y="${y}" dy="0.32em">${escapeHtml(name)}</text>`;
  });
  return standalone(
    chart.title,
    height + 18 * legend.length + 8,
    `${drawChart(chart)}\n${legend.join('\n')}`,
  );
}

function drawnSeries({ series }: Chart): Series[] {
  return series.filter(({ points }) => points.length > 0);
}

function drawChart(chart: Chart): string {
  const drawn = drawnSeries(chart);
  const points = drawn.flatMap(({ points }) => points);
  const x = axis(
    points.map(([value]) => value),
    chart.xScale ?? 'linear',
    left,
    width - right,
    chart.xFromZero,
  );
  const ys = points.map(([, value]) => value);
  if (chart.yMax !== undefined) ys.push(chart.yMax);
  if (chart.yBound !== undefined) ys.push(chart.yBound);
  const y = axis(ys, chart.yScale ?? 'linear', height - bottom, top, chart.yScale !== 'log');
  const grid = [
    ...y.ticks.map((value) => {
      const at = y.at(value).toFixed(1);
      return (
        `<line class="grid" x1="${left}" x2="${width - right}" y1="${at}" y2="${at}"/>` +
        `<text class="tick" x="${left - 8}" y="${at}" dy="0.32em" text-anchor="end">${tick(value)}</text>`
      );
    }),
    ...x.ticks.map((value) => {
      const at = x.at(value).toFixed(1);
      return (
        `<line class="notch" x1="${at}" x2="${at}" y1="${height - bottom}" y2="${height - bottom + 4}"/>` +
        `<text class="tick" x="${at}" y="${height - bottom + 16}" text-anchor="middle">${tick(value)}</text>`
      );
    }),
  ];
  const bound =
    chart.yBound === undefined
      ? ''
      : `<line class="bound" x1="${left}" x2="${width - right}" y1="${y.at(chart.yBound).toFixed(1)}" y2="${y.at(chart.yBound).toFixed(1)}"/>`;
  const lines = drawn.map(({ name, color, points }) => {
    const path = points.map(
      ([px, py], i) => `${i === 0 ? 'M' : 'L'}${x.at(px).toFixed(1)} ${y.at(py).toFixed(1)}`,
    );
    const marks = chart.marks
      ? points.map(
          ([px, py]) =>
            `<circle class="c${color}" cx="${x.at(px).toFixed(1)}" cy="${y.at(py).toFixed(1)}" r="3.2">` +
            `<title>${escapeHtml(name)}: ${tick(py)} at ${tick(px)}</title></circle>`,
        )
      : [];
    return `<path class="line c${color}" d="${path.join('')}"><title>${escapeHtml(name)}</title></path>${marks.join('')}`;
  });
  return `${grid.join('')}
<line class="axis" x1="${left}" x2="${width - right}" y1="${height - bottom}" y2="${height - bottom}"/>
${bound}${lines.join('\n')}
<text class="label" x="${(left + width - right) / 2}" y="${height - 6}" text-anchor="middle">${escapeHtml(chart.xLabel)}</text>
<text class="label" transform="translate(12 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(chart.yLabel)}</text>`;
}

const titleHeight = 34;

/** An SVG file that needs no other, readable in the light and in the dark. */
export function standalone(title: string, bodyHeight: number, body: string): string {
  const all = bodyHeight + titleHeight;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${all}" role="img" aria-label="${escapeHtml(title)}" font-family="system-ui, sans-serif">
<style>${style}</style>
<rect width="${width}" height="${all}" rx="8" style="fill:var(--card)"/>
<text class="name" x="16" y="21" style="font-size:13.5px;font-weight:600">${escapeHtml(title)}</text>
<g transform="translate(0 ${titleHeight})">
${body}
</g>
</svg>
`;
}

export interface Bars {
  readonly title: string;
  readonly about: string;
  readonly bars: readonly { readonly name: string; readonly value: number; readonly color: number }[];
}

const barHeight = 24;
/** Of a letter, on average. */
const letterWidth = 6.4;

/** A horizontal bar for each name, its value beside it; as HTML with an inline SVG. */
export function renderBars(chart: Bars): string {
  return `<figure>
<figcaption><b>${escapeHtml(chart.title)}</b> ${escapeHtml(chart.about)}</figcaption>
<svg class="bars" viewBox="0 0 ${width} ${barsHeight(chart)}" role="img" aria-label="${escapeHtml(chart.title)}">
${drawBars(chart)}
</svg>
</figure>`;
}

/** The same as a file of its own. */
export function barsSvg(chart: Bars): string {
  return standalone(chart.title, barsHeight(chart), drawBars(chart));
}

function barsHeight({ bars }: Bars): number {
  return bars.length * barHeight + 6;
}

function drawBars({ bars }: Bars): string {
  const nameWidth = 16 + letterWidth * Math.max(...bars.map(({ name }) => name.length));
  const most = Math.max(...bars.map(({ value }) => value), 1e-9);
  const lines = bars.map(({ name, value, color }, index) => {
    const y = index * barHeight;
    const length = ((width - nameWidth - 60) * value) / most;
    return (
      `<text class="name" x="${nameWidth - 8}" y="${y + 12}" dy="0.32em" text-anchor="end">${escapeHtml(name)}</text>` +
      `<rect class="c${color}" x="${nameWidth}" y="${y + 4}" width="${length.toFixed(1)}" height="${barHeight - 8}" rx="2"/>` +
      `<text class="tick" x="${(nameWidth + length + 6).toFixed(1)}" y="${y + 12}" dy="0.32em">${readable(value)}</text>`
    );
  });
  return lines.join('\n');
}

interface Axis {
  readonly ticks: readonly number[];
  at(value: number): number;
}

function axis(
  values: readonly number[],
  scale: 'linear' | 'log',
  from: number,
  to: number,
  withZero = false,
): Axis {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (scale === 'log') {
    low = Math.max(low, high / 1e6, 1e-3);
    if (high <= low) high = low * 10;
    const span = Math.log(high / low);
    return {
      ticks: logTicks(low, high),
      at: (value) => from + ((to - from) * Math.log(Math.max(value, low) / low)) / span,
    };
  }
  if (withZero) low = Math.min(0, low);
  if (high === low) high = low + 1;
  const ticks = linearTicks(low, high);
  return { ticks, at: (value) => from + ((to - from) * (value - low)) / (high - low) };
}

function linearTicks(low: number, high: number): number[] {
  const step = niceStep((high - low) / 5);
  const ticks: number[] = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) {
    ticks.push(Number(tick.toPrecision(10)));
  }
  return ticks;
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
}

/** Powers of ten, with 2 and 5 between them where there is room. */
function logTicks(low: number, high: number): number[] {
  const decades = Math.log10(high / low);
  const factors = decades > 3.5 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  }
  // In less than half a decade these are too few.
  return ticks.length > 2 ? ticks : linearTicks(low, high);
}

function tick(value: number): string {
  if (value >= 10_000) return `${readable(value / 1000)}k`;
  return readable(value);
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.codePointAt(0)};`);
}
