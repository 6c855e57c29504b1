import { h, setText } from '../shared/dom.js';
import uPlot from '../vendor/uplot.js';
import { color, faint, onScheme } from './theme.js';

export interface TimeSeries {
  readonly name: string;
  /** A variable of the style sheet. */
  readonly color: string;
  /** `area`: filled down to the area before it, so that areas lie on each other; `filled`: down to 0. */
  readonly look?: 'line' | 'filled' | 'area';
  readonly dashed?: boolean;
  /** Drawn as steps: it is a count, and has no values between. */
  readonly stepped?: boolean;
  /** Of the axis on the right. */
  readonly right?: boolean;
}

export interface TimeChartOptions {
  readonly series: readonly TimeSeries[];
  readonly format: (value: number) => string;
  readonly formatRight?: (value: number) => string;
  /** The least upper end of the axis. */
  readonly top?: number;
  readonly log?: boolean;
  /** What may lie between two marks of the axis; any round number if absent. */
  readonly increments?: readonly number[];
  /** Seconds that are shown. */
  readonly span: number;
}

type Values = readonly (number | null)[];

const font = '11.5px system-ui, sans-serif';

/** Lines or stacked areas over the last minutes. */
export class TimeChart {
  #plot: uPlot;
  #data: uPlot.AlignedData;
  #times: readonly number[] = [];
  #now = 0;
  readonly #target: HTMLElement;
  readonly #values: HTMLElement[] = [];
  #top: number;

  constructor(
    parent: HTMLElement,
    private readonly options: TimeChartOptions,
  ) {
    this.#top = options.top ?? 0;
    this.#target = h('div', { class: 'plot', 'aria-hidden': 'true' });
    const legend = h('ul', { class: 'legend' });
    for (const { name, color, dashed } of options.series) {
      const value = h('b');
      this.#values.push(value);
      legend.append(
        h('li', {}, h('i', { class: `key ${color}${dashed ? ' dashed' : ''}` }), name, ' ', value),
      );
    }
    parent.append(legend, this.#target);
    this.#data = [[], ...options.series.map(() => [])] as uPlot.AlignedData;
    this.#plot = this.#make();
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(this.#target);
    onScheme(() => {
      this.#plot.destroy();
      this.#plot = this.#make();
    });
  }

  /** The axis goes up to this at least. */
  setTop(top: number): void {
    this.#top = top;
  }

  /** `columns` in the order of the series; `now` is the right end. */
  draw(times: readonly number[], columns: readonly Values[], now: number): void {
    this.#times = times;
    this.#now = now;
    this.#data = [times, ...stack(this.options.series, columns)] as unknown as uPlot.AlignedData;
    this.#plot.setData(this.#data, false);
    this.#plot.setScale('x', { min: now - this.options.span, max: now });
    this.#plot.setScale('y', this.#range(false));
    if (this.options.formatRight) this.#plot.setScale('right', this.#range(true));
    this.options.series.forEach(({ right }, index) => {
      const value = columns[index]!.at(-1) ?? null;
      const format = right ? this.options.formatRight! : this.options.format;
      setText(this.#values[index]!, value === null ? '–' : format(value));
    });
  }

  #range(right: boolean): { min: number; max: number } {
    const from = this.#now - this.options.span;
    let max = right ? 0 : this.#top;
    let min = Number.POSITIVE_INFINITY;
    this.options.series.forEach((series, index) => {
      if ((series.right ?? false) !== right) return;
      const values = this.#data[index + 1]!;
      for (let at = 0; at < values.length; at++) {
        const value = values[at];
        if (value === null || value === undefined || this.#times[at]! < from) continue;
        max = Math.max(max, value);
        if (value > 0) min = Math.min(min, value);
      }
    });
    if (this.options.log) return max === 0 ? { min: 1, max: 100 } : logRange(min, max);
    return { min: 0, max: max === 0 ? 1 : max * (max > this.#top ? 1.12 : 1.04) };
  }

  #size(): { width: number; height: number } {
    return { width: Math.max(120, this.#target.clientWidth), height: this.#target.clientHeight };
  }

  #make(): uPlot {
    const { series, format, formatRight, log, increments } = this.options;
    const soft = color('soft');
    const axis = { stroke: soft, font, ticks: { show: false } };
    const grid = { stroke: color('rule'), width: 1 };
    const rightAxis: uPlot.Axis = {
      ...axis,
      scale: 'right',
      side: 1,
      size: 54,
      grid: { show: false },
      values: (_, ticks) => ticks.map((tick) => formatRight!(tick)),
    };
    return new uPlot(
      {
        ...this.#size(),
        padding: [8, formatRight ? 0 : 22, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 }, right: {} },
        axes: [
          {
            ...axis,
            grid: { show: false },
            size: 26,
            space: 70,
            incrs: [10, 15, 30, 60],
            values: (_, ticks) => ticks.map((tick) => agoText(this.#now - tick)),
            splits: (_, __, min, max) => wholeSteps(min, max),
          },
          {
            ...axis,
            grid: { ...grid, ...(log && { filter: decadesAndHalves }) },
            ...(log && { filter: decadesAndHalves }),
            ...(increments && { incrs: [...increments] }),
            size: 58,
            space: 34,
            values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : format(tick))),
          },
          ...(formatRight ? [rightAxis] : []),
        ],
        series: [{}, ...series.map(lineOf)],
        bands: series.flatMap((_, index) =>
          isOnArea(series, index) ? [{ series: [index + 1, index] as [number, number] }] : [],
        ),
      },
      this.#data,
      this.#target,
    );
  }
}

function lineOf({ color: name, look, dashed, stepped, right }: TimeSeries): uPlot.Series {
  return {
    stroke: color(name),
    // An area without height must not show as a line.
    width: look === 'area' ? 0 : 1.75,
    scale: right ? 'right' : 'y',
    points: { show: false },
    ...(look === 'area' && { fill: faint(name, 0.72) }),
    ...(look === 'filled' && { fill: faint(name, 0.2) }),
    ...(dashed && { dash: [5, 4] }),
    ...(stepped && { paths: uPlot.paths.stepped!({ align: -1 }) }),
  };
}

/** Each area on top of the one before it. */
function stack(series: readonly TimeSeries[], columns: readonly Values[]): Values[] {
  const drawn: Values[] = [];
  series.forEach((_, index) => {
    const own = columns[index]!;
    const below = isOnArea(series, index) ? drawn[index - 1] : undefined;
    drawn.push(below ? own.map((value, at) => sum(value, below[at])) : own);
  });
  return drawn;
}

function isOnArea(series: readonly TimeSeries[], index: number): boolean {
  return series[index]!.look === 'area' && series[index - 1]?.look === 'area';
}

function sum(a: number | null, b: number | null | undefined): number | null {
  return a === null ? null : a + (b ?? 0);
}

/** From one 1, 2 or 5 times a power of ten to another. */
function logRange(low: number, high: number): { min: number; max: number } {
  const round = (value: number, up: boolean): number => {
    const power = 10 ** Math.floor(Math.log10(value));
    const steps = [1, 2, 5, 10].map((step) => step * power);
    return up
      ? steps.find((step) => step >= value * 0.999)!
      : steps.findLast((step) => step <= value * 1.001)!;
  };
  const min = round(low, false);
  return { min, max: Math.max(round(high, true), min * 10) };
}

/** Of an axis that has a mark for each digit, those at powers of ten and at halves of them. */
function decadesAndHalves(_: uPlot, marks: number[]): (number | null)[] {
  return marks.map((mark) => (/^[15]/.test(mark.toExponential()) ? mark : null));
}

/** Every 30 s, counted back from the right end. */
function wholeSteps(min: number, max: number): number[] {
  const step = 30;
  const ticks: number[] = [];
  for (let at = max; at >= min - 0.01; at -= step) ticks.unshift(at);
  return ticks;
}

function agoText(seconds: number): string {
  const whole = Math.round(seconds);
  return whole === 0 ? 'now' : `−${whole} s`;
}
