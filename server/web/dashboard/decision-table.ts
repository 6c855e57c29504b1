import type { SampleFrame } from '../../live/live-protocol.js';
import { h, setText } from '../shared/dom.js';
import { formatCount, formatMs, formatRate } from '../shared/format.js';

type Scheduler = NonNullable<SampleFrame['engine']>['scheduler'];
type Decision = NonNullable<Scheduler['decision']>;

/** Why the device is shared as it is: what was compared, what was foreseen of each, and what was taken. */
export class DecisionTable {
  readonly #about = h('p', { class: 'soft' });
  readonly #rows = h('tbody');
  #shown: number | undefined;

  constructor(parent: HTMLElement) {
    const names = ['Way', 'Prefill has', 'Chunk', 'Its step', 'TBT', 'Prompt tokens/s'];
    const head = h('tr', {}, ...names.map((name) => h('th', { scope: 'col' }, name)));
    const scroll = { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Ways to share the device' };
    parent.append(this.#about, h('div', scroll, h('table', {}, h('thead', {}, head), this.#rows)));
  }

  draw(scheduler: Scheduler | undefined): void {
    const decision = scheduler?.decision;
    if (!scheduler || !decision) {
      setText(this.#about, scheduler ? whyNone(scheduler) : '');
      this.#rows.replaceChildren();
      this.#shown = undefined;
      return;
    }
    if (decision.nowMs === this.#shown) return;
    this.#shown = decision.nowMs;
    setText(this.#about, aboutOf(scheduler, decision));
    this.#rows.replaceChildren(
      ...decision.candidates.map((candidate) => {
        const { mode, prefillUnits, chunkTokens, prefillSeconds, decodeSeconds, prefillRate } = candidate;
        const isChosen = sameWay(candidate, decision.chosen);
        const name = mode === 'split' ? 'side by side' : 'one mixed step';
        return h(
          'tr',
          { class: isChosen ? 'chosen' : undefined },
          h('th', { scope: 'row' }, name, isChosen && h('span', { class: 'badge' }, 'chosen')),
          h('td', {}, `${prefillUnits} of ${scheduler.units}`),
          h('td', {}, formatCount(chunkTokens)),
          h('td', {}, formatMs(prefillSeconds * 1000)),
          h('td', {}, formatMs(decodeSeconds * 1000)),
          h('td', {}, formatRate(prefillRate)),
        );
      }),
    );
  }
}

function sameWay(a: Decision['chosen'], b: Decision['chosen']): boolean {
  return a.mode === b.mode && a.prefillUnits === b.prefillUnits && a.chunkTokens === b.chunkTokens;
}

function aboutOf(
  { policy, prefillOrder, constants }: Scheduler,
  { favours, bound, isKept }: Decision,
): string {
  const goal =
    favours === 'prefill'
      ? `the fastest prefill that keeps streams within ${formatMs(bound * 1000)} from token to token`
      : `the fastest streams that keep prompts at ${formatRate(bound)} tokens/s, since memory is short`;
  const kept = isKept ? ' The present way was kept: the best one promised too little more.' : '';
  return `${policy}, prompts ${prefillOrder}, cost model: ${constants}. Sought: ${goal}.${kept}`;
}

function whyNone({ policy }: Scheduler): string {
  return `${policy}: there was no choice yet between ways to share the device, for prompts and streams have not met.`;
}
