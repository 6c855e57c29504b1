import { h, setText, svg } from '../shared/dom.js';
import { formatCount, formatMs, formatRate } from '../shared/format.js';
import { ServerError } from '../shared/server-error.js';
import { addToCalls, type ChatEvent, type ToolCall, type Usage } from './chat-stream.js';
import type { StreamTiming } from './stream-timing.js';
import { type TextBlock, textBlocks } from './text-blocks.js';
import { TokenView } from './token-view.js';

/** Bursts that the drawing of gaps shows, the last ones. */
const shownGaps = 60;

/** An answer in the conversation: its text as it comes, and below it how fast it came. */
export class AnswerView {
  readonly #body = h('div', { class: 'body' });
  readonly #metrics = h('dl', { class: 'metrics' });
  /** By what they are of, in the order in which they stand. */
  readonly #figures = new Map(
    ['TTFT', 'TBT', 'speed', 'answer', 'prompt', 'end'].map((name) => [name, h('dd')]),
  );
  readonly #gaps = svg('svg', { class: 'gaps', 'aria-hidden': 'true' }) as SVGSVGElement;
  readonly #footer = h('footer', { hidden: true }, this.#metrics, this.#gaps);
  readonly #tokens: TokenView | undefined;
  readonly element = h(
    'article',
    { class: 'message assistant', 'aria-label': 'Answer' },
    this.#body,
    this.#footer,
  );
  #text = '';
  #isDrawn = true;
  readonly #toolCalls: ToolCall[] = [];

  constructor(
    private readonly timing: StreamTiming,
    showsProbabilities: boolean,
  ) {
    for (const [name, value] of this.#figures) {
      this.#metrics.append(h('div', { hidden: true }, h('dt', {}, name), value));
    }
    if (showsProbabilities) {
      this.#tokens = new TokenView();
      this.element.insertBefore(this.#tokens.element, this.#footer);
    }
    this.element.classList.add('streaming');
  }

  get text(): string {
    return this.#text;
  }

  get toolCalls(): readonly ToolCall[] {
    return this.#toolCalls;
  }

  add(event: ChatEvent): void {
    this.#text += event.text;
    this.#tokens?.add(event.tokens);
    addToCalls(this.#toolCalls, event.toolCalls);
    this.#draw();
  }

  /** The stream has ended, by itself or by `note`. */
  end(finishReason: string | null, usage: Usage | undefined): void {
    if (usage) this.timing.correct(usage.completion_tokens);
    this.element.classList.remove('streaming');
    this.#drawNow();
    if (usage) {
      const { prompt_tokens, prompt_tokens_details: details } = usage;
      this.#figure(
        'prompt',
        `${formatCount(prompt_tokens)} tokens, ${formatCount(details?.cached_tokens ?? 0)} cached`,
      );
    }
    const ends: Record<string, string> = {
      length: 'cut off: the longest answer was reached',
      tool_calls: 'calls tools',
      stopped: 'stopped by you',
    };
    const end = ends[finishReason ?? ''];
    if (end) this.#figure('end', end);
  }

  fail(error: Error): void {
    this.element.classList.remove('streaming');
    this.#drawNow();
    this.element.insertBefore(errorBox(error), this.#footer);
  }

  /** Many events come between two pictures of the screen. */
  #draw(): void {
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    requestAnimationFrame(() => {
      if (!this.#isDrawn) this.#drawNow();
    });
  }

  #drawNow(): void {
    this.#isDrawn = true;
    // With probabilities the tokens are the text.
    if (!this.#tokens) drawBlocks(this.#body, textBlocks(this.#text));
    this.#drawCalls();
    this.#drawTiming();
  }

  #drawCalls(): void {
    const drawn = this.#body.querySelectorAll('.tool-call');
    this.#toolCalls.forEach(({ function: called }, index) => {
      const text = `${called.name}(${pretty(called.arguments)})`;
      if (drawn[index]) {
        setText(drawn[index].firstElementChild!, text);
        return;
      }
      this.#body.append(
        h(
          'pre',
          { class: 'tool-call', role: 'region', tabindex: 0, 'aria-label': 'Tool call' },
          h('code', {}, text),
        ),
      );
    });
  }

  #drawTiming(): void {
    const { ttftMs, tbtMs, longestGapMs, tokensPerSecond, tokens, gapsMs } = this.timing;
    if (ttftMs === undefined) return;
    this.#footer.hidden = false;
    this.#figure('TTFT', formatMs(ttftMs));
    if (tbtMs !== undefined)
      this.#figure(
        'TBT',
        `${formatMs(tbtMs)}${longestGapMs === undefined ? '' : `, longest ${formatMs(longestGapMs)}`}`,
      );
    if (tokensPerSecond !== undefined) this.#figure('speed', `${formatRate(tokensPerSecond)} tokens/s`);
    this.#figure('answer', `${formatCount(tokens)} tokens`);
    drawGaps(this.#gaps, gapsMs.slice(-shownGaps));
  }

  #figure(name: string, value: string): void {
    const element = this.#figures.get(name)!;
    element.parentElement!.hidden = false;
    setText(element, value);
  }
}

/** What went wrong, in the words of the server, with what helps to find it there. */
export function errorBox(error: Error): HTMLElement {
  const details = error instanceof ServerError ? factsOf(error) : [];
  return h(
    'div',
    { class: 'error', role: 'alert' },
    h('p', {}, error.message),
    details.length > 0 && h('p', { class: 'soft' }, details.join(' · ')),
  );
}

function factsOf({ status, details }: ServerError): string[] {
  const { param, code, retryAfterSeconds, requestId } = details;
  return [
    status > 0 && `HTTP ${status}`,
    code && `code ${code}`,
    param && `field ${param}`,
    retryAfterSeconds !== undefined && `try again in ${formatCount(retryAfterSeconds)} s`,
    requestId && `request ${requestId}`,
  ].filter((fact) => typeof fact === 'string');
}

/** Blocks that are there stay, so that what a person has selected does. */
function drawBlocks(parent: HTMLElement, blocks: readonly TextBlock[]): void {
  blocks.forEach(({ kind, text, language }, index) => {
    let element = parent.children[index];
    if (
      !element ||
      element.classList.contains('tool-call') ||
      element.classList.contains('code') !== (kind === 'code')
    ) {
      const fresh =
        kind === 'code'
          ? h(
              'pre',
              {
                class: 'code',
                role: 'region',
                tabindex: 0,
                'aria-label': language === '' ? 'Code' : `Code, ${language}`,
              },
              h('code'),
            )
          : h('p');
      if (element) parent.insertBefore(fresh, element);
      else parent.append(fresh);
      element = fresh;
    }
    setText(kind === 'code' ? element.firstElementChild! : element, text);
  });
}

function drawGaps(target: SVGSVGElement, gapsMs: readonly number[]): void {
  const highest = Math.max(...gapsMs, 1);
  const width = 2;
  const first = shownGaps - gapsMs.length;
  target.setAttribute('viewBox', `0 0 ${shownGaps * width} 22`);
  const bars = gapsMs.map((gap, index) => {
    const height = Math.max(1, (20 * gap) / highest);
    return svg('rect', { x: (first + index) * width, y: 22 - height, width: width - 0.6, height });
  });
  target.replaceChildren(...bars);
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
