import { h, setText, svg } from '../shared/dom.js';
import { formatCount, formatMs } from '../shared/format.js';
import type { LatencyWindow } from './latency-window.js';

/** Bins of the window that make one bar: each is 22% wider than the one before. */
const barBins = 4;
const width = 520;
const height = 150;
const bottom = 24;
const top = 18;

const marked = [
  ['p50', 0.5],
  ['p95', 0.95],
  ['p99', 0.99],
] as const;

/** How latencies are distributed, over a logarithmic axis, with the percentiles that people ask for. */
export class Distribution {
  readonly #svg = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' });
  readonly #caption = h('p', { class: 'soft' });

  constructor(
    parent: HTMLElement,
    private readonly name: string,
    private readonly color: string,
  ) {
    parent.append(this.#caption, this.#svg);
  }

  draw(window: LatencyWindow): void {
    const bars = window.bars(barBins);
    const marks = marked.map(([label, p]) => ({ label, ms: window.percentile(p) }));
    const facts = marks.flatMap(({ label, ms }) => (ms === null ? [] : `${label} ${formatMs(ms)}`));
    const text =
      bars.length === 0 ? 'nothing yet' : `${formatCount(window.total)} seen · ${facts.join(' · ')}`;
    setText(this.#caption, text);
    this.#svg.setAttribute('aria-label', `Distribution of ${this.name}: ${text}`);
    if (bars.length === 0) {
      this.#svg.replaceChildren();
      return;
    }
    const lowMs = bars[0]!.fromMs / 1.22;
    const highMs = Math.max(bars.at(-1)!.toMs * 1.22, lowMs * 20);
    const x = (ms: number): number => (width * Math.log(ms / lowMs)) / Math.log(highMs / lowMs);
    const most = Math.max(...bars.map(({ count }) => count));
    const drawn = bars.map(({ fromMs, toMs, count }) => {
      // A lone one among thousands is still seen.
      const tall = count === 0 ? 0 : Math.max(2, ((height - top - bottom) * count) / most);
      const left = x(fromMs) + 1;
      const y = height - bottom - tall;
      return svg('rect', {
        class: this.color,
        x: left,
        y,
        width: Math.max(1, x(toMs) - left),
        height: tall,
        rx: 1.5,
      });
    });
    this.#svg.replaceChildren(
      ...ticksBetween(lowMs, highMs).map((ms) => {
        const tick = svg('text', { class: 'tick', x: x(ms), y: height - 6, 'text-anchor': 'middle' });
        tick.textContent = formatMs(ms);
        return tick;
      }),
      svg('line', { class: 'axis', x1: 0, x2: width, y1: height - bottom, y2: height - bottom }),
      ...drawn,
      ...placed(marks, x).flatMap(({ label, at, textAt }) => {
        const text = svg('text', { class: 'mark', x: textAt, y: 11, 'text-anchor': 'middle' });
        text.textContent = label;
        return [svg('line', { class: 'mark', x1: at, x2: at, y1: top - 3, y2: height - bottom }), text];
      }),
    );
  }
}

/** Marks from left to right, their labels moved apart where they would cover each other. */
function placed(
  marks: readonly { label: string; ms: number | null }[],
  x: (ms: number) => number,
): { label: string; at: number; textAt: number }[] {
  let free = 0;
  return marks.flatMap(({ label, ms }) => {
    if (ms === null) return [];
    const at = x(ms);
    const textAt = Math.min(Math.max(at, free + 14), width - 14);
    free = textAt + 14;
    return { label, at, textAt };
  });
}

/** Powers of ten, and halves and fifths of them where there is room. */
function ticksBetween(lowMs: number, highMs: number): number[] {
  const decades = Math.log10(highMs / lowMs);
  const steps = decades > 2.5 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(lowMs)); power <= Math.log10(highMs); power++) {
    for (const step of steps) ticks.push(step * 10 ** power);
  }
  const margin = 1.1;
  return ticks.filter((ms) => ms > lowMs * margin && ms < highMs / margin);
}
