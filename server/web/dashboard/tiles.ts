import { h, setText, svg } from '../shared/dom.js';

const width = 120;
const height = 28;

/** A figure with its name, what belongs to it, and a line of how it was lately. */
export class Tile {
  readonly #value = h('b', {}, '–');
  readonly #note = h('small', {}, '\u00a0');
  readonly #line = svg('polyline', { class: 'line' });
  readonly #area = svg('polygon', { class: 'area' });

  constructor(parent: HTMLElement, name: string, color: string) {
    const chart = svg(
      'svg',
      { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', class: color },
      this.#area,
      this.#line,
    );
    parent.append(
      h(
        'div',
        { class: 'tile' },
        h('span', { class: 'name' }, name),
        this.#value,
        this.#note,
        chart as unknown as Node,
      ),
    );
  }

  show(value: string, note: string, history: readonly (number | null)[]): void {
    setText(this.#value, value);
    setText(this.#note, note || '\u00a0');
    const high = Math.max(...history.map((one) => one ?? 0), 1e-9);
    const points = history.flatMap((one, index) => {
      if (one === null) return [];
      const x = (width * index) / Math.max(1, history.length - 1);
      return `${x.toFixed(1)},${(height - 2 - ((height - 4) * one) / high).toFixed(1)}`;
    });
    this.#line.setAttribute('points', points.join(' '));
    const first = points[0]?.split(',')[0];
    const last = points.at(-1)?.split(',')[0];
    this.#area.setAttribute(
      'points',
      points.length < 2 ? '' : `${first},${height} ${points.join(' ')} ${last},${height}`,
    );
  }
}
