import { h, setText } from '../shared/dom.js';
import { formatShare } from '../shared/format.js';
import type { ChosenToken } from './chat-stream.js';

/**
 * An answer token by token, each in a shade of how likely it was, with what could have been there instead. One of them is
 * in the order of the tab key; the arrows go on from it.
 */
export class TokenView {
  readonly #tokens: ChosenToken[] = [];
  readonly #list = h('div', {
    class: 'tokens',
    role: 'group',
    'aria-label': 'Tokens and their probabilities',
  });
  readonly #detail = h('div', { class: 'token-detail', 'aria-live': 'polite' });
  readonly element = h('div', { class: 'token-view' }, this.#list, this.#detail);
  #shown = -1;

  constructor() {
    setText(this.#detail, 'Point at a token, or go there with Tab and the arrow keys.');
    this.#list.addEventListener('mouseover', (event) => this.#show(this.#indexOf(event.target)));
    this.#list.addEventListener('focusin', (event) => this.#show(this.#indexOf(event.target)));
    this.#list.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.#focus(this.#indexOf(event.target) + step);
    });
  }

  add(tokens: readonly ChosenToken[]): void {
    for (const token of tokens) {
      const index = this.#tokens.push(token) - 1;
      const surprise = Math.min(4, Math.floor(-token.logprob / Math.LN2));
      const text = token.token.replaceAll('\n', '⏎\n');
      const element = h('button', {
        type: 'button',
        class: `token surprise-${surprise}`,
        'data-index': index,
        tabindex: index === 0 ? 0 : -1,
        'aria-label': `${JSON.stringify(token.token)} ${formatShare(Math.exp(token.logprob))}`,
      });
      element.textContent = text;
      this.#list.append(element);
    }
  }

  #indexOf(target: EventTarget | null): number {
    return Number((target as HTMLElement | null)?.dataset.index ?? -1);
  }

  #focus(index: number): void {
    const to = this.#list.children[index] as HTMLElement | undefined;
    if (!to) return;
    for (const element of this.#list.querySelectorAll('[tabindex="0"]'))
      element.setAttribute('tabindex', '-1');
    to.setAttribute('tabindex', '0');
    to.focus();
  }

  #show(index: number): void {
    const token = this.#tokens[index];
    if (!token || index === this.#shown) return;
    this.#shown = index;
    const others = token.top_logprobs.map(({ token: text, logprob }) =>
      h(
        'span',
        { class: text === token.token ? 'alternative chosen' : 'alternative' },
        h('code', {}, JSON.stringify(text)),
        ` ${formatShare(Math.exp(logprob))}`,
      ),
    );
    this.#detail.replaceChildren(...others);
  }
}
