import { type EventBatch, engineError, wireError } from './messages.js';
import type { TokenEvent } from './types.js';

/** Gathers the events of a step in the engine's thread. */
export class EventBatcher {
  #numbers: number[] = [];
  #choices: number[] = [];
  #tokens: number[] = [];
  #texts: string[] = [];
  #others: EventBatch['others'][number][] = [];

  get isEmpty(): boolean {
    return this.#numbers.length === 0 && this.#others.length === 0;
  }

  add(number: number, event: TokenEvent): void {
    if (event.type === 'tokens' && !event.logprobs && event.tokens.length === 1) {
      this.#numbers.push(number);
      this.#choices.push(event.choice);
      this.#tokens.push(event.tokens[0]!);
      this.#texts.push(event.text);
      return;
    }
    const wire = event.type === 'error' ? { type: event.type, error: wireError(event.error) } : event;
    this.#others.push({ after: this.#numbers.length, number, event: wire });
  }

  take(): EventBatch {
    const batch: EventBatch = {
      numbers: Int32Array.from(this.#numbers),
      choices: Int32Array.from(this.#choices),
      tokens: Int32Array.from(this.#tokens),
      texts: this.#texts,
      others: this.#others,
    };
    this.#numbers = [];
    this.#choices = [];
    this.#tokens = [];
    this.#texts = [];
    this.#others = [];
    return batch;
  }
}

/** Calls `onEvents` once per request with its events of the batch, in order. */
export function unpackBatch(
  batch: EventBatch,
  onEvents: (number: number, events: readonly TokenEvent[]) => void,
): void {
  const byRequest = new Map<number, TokenEvent[]>();
  const push = (number: number, event: TokenEvent): void => {
    const events = byRequest.get(number);
    if (events) events.push(event);
    else byRequest.set(number, [event]);
  };
  let next = 0;
  const pushOthers = (rows: number): void => {
    for (; next < batch.others.length && batch.others[next]!.after <= rows; next++) {
      const { number, event } = batch.others[next]!;
      if (event.type === 'error') {
        push(number, { type: 'error', error: engineError(event.error) });
      } else {
        push(number, event);
      }
    }
  };
  batch.numbers.forEach((number, row) => {
    pushOthers(row);
    const choice = batch.choices[row]!;
    push(number, { type: 'tokens', choice, text: batch.texts[row]!, tokens: [batch.tokens[row]!] });
  });
  pushOthers(batch.numbers.length);
  for (const [number, events] of byRequest) onEvents(number, events);
}
