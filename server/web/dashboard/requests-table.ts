import type { RequestRow } from '../../live/live-protocol.js';
import { h } from '../shared/dom.js';
import { formatCount, formatMs, formatRate } from '../shared/format.js';

const shownRows = 14;
const keptEnded = 50;

const states: Record<RequestRow['state'], string> = {
  waiting: 'waiting',
  running: 'running',
  stop: 'finished',
  length: 'full length',
  abort: 'client left',
  error: 'failed',
};

const kinds: Record<string, string> = {
  chatcmpl: 'chat',
  cmpl: 'completion',
  resp: 'response',
  stream: 'socket',
};

/** Requests that run and those that have ended lately, without a word of what was in them. */
export class RequestsTable {
  readonly #rows = h('tbody');
  readonly #more = h('p', { class: 'soft' });
  #ended: RequestRow[] = [];

  constructor(parent: HTMLElement) {
    const names = [
      'Request',
      'State',
      'Prompt',
      'Cached',
      'Answer',
      'TTFT',
      'TBT',
      'Longest',
      'Tokens/s',
      'In all',
    ];
    const head = h('tr', {}, ...names.map((name) => h('th', { scope: 'col' }, name)));
    const scroll = { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Table of requests' };
    parent.append(h('div', scroll, h('table', {}, h('thead', {}, head), this.#rows)), this.#more);
  }

  /** Those the server remembers, in place of all that were known. */
  reset(ended: readonly RequestRow[]): void {
    this.#ended = [...ended];
  }

  draw(running: readonly RequestRow[], ended: readonly RequestRow[]): void {
    const known = new Set(this.#ended.map(({ number }) => number));
    const fresh = ended.filter(({ number }) => !known.has(number)).reverse();
    this.#ended = [...fresh, ...this.#ended].slice(0, keptEnded);
    const all = [...running, ...this.#ended];
    this.#rows.replaceChildren(...all.slice(0, shownRows).map(rowOf));
    const hidden = all.length - shownRows;
    this.#more.textContent = all.length === 0 ? 'No requests yet.' : hidden > 0 ? `and ${hidden} more` : '';
  }
}

function rowOf(row: RequestRow): HTMLTableRowElement {
  const {
    number,
    kind,
    state,
    promptTokens,
    cachedTokens,
    completionTokens,
    choices,
    ttftMs,
    tbtMs,
    maxTbtMs,
    totalMs,
  } = row;
  const speed = tbtMs ? (1000 * choices) / tbtMs : null;
  const cells = [
    formatCount(promptTokens),
    orNone(cachedTokens, formatCount),
    choices > 1 ? `${formatCount(completionTokens)} in ${choices}` : formatCount(completionTokens),
    orNone(ttftMs, formatMs),
    orNone(tbtMs, formatMs),
    orNone(maxTbtMs, formatMs),
    orNone(speed, formatRate),
    formatMs(totalMs),
  ];
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, `${number} `, h('span', { class: 'soft' }, kinds[kind] ?? kind)),
    h('td', {}, h('span', { class: `state ${state}` }, states[state])),
    ...cells.map((cell) => h('td', {}, cell)),
  );
}

function orNone(value: number | null, format: (value: number) => string): string {
  return value === null ? '–' : format(value);
}
