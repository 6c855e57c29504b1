import type { FinishReason, GenerateRequest, TokenEvent, Usage } from '../engine/index.js';
import type { RequestTimes } from './live/recent-requests.js';
import type { Service } from './service.js';

/**
 * One request at the engine, seen from the front end: it times what passes, counts how it ended, and cancels once if
 * whoever asked has left.
 */
export class Generation {
  readonly #startedAt = performance.now();
  readonly #lastTokenAt = new Map<number, number>();
  #open = true;
  #reason: 'abort' | 'error' | FinishReason = 'abort';
  /** From its start on. */
  #times: RequestTimes | undefined;
  #stalledSince: number | undefined;
  usage: Usage | undefined;

  constructor(
    private readonly service: Service,
    private readonly request: GenerateRequest,
    private readonly onEvents: (events: readonly TokenEvent[]) => void,
  ) {}

  /** Throws `ApiError` if the server takes no work. */
  start(): void {
    const { engine } = this.service.model;
    const { id, prompt, n } = this.request;
    this.service.metrics.activeRequests.inc();
    this.#times = this.service.recent.begin(id, prompt.length, n);
    engine.submit(this.request, (events) => {
      if (!this.#open) return;
      for (const event of events) this.#observe(event);
      this.onEvents(events);
    });
  }

  cancel(): void {
    if (!this.#open) return;
    this.service.loaded?.engine.cancel(this.request.id);
    this.#close();
  }

  /** The reader does not keep up: decode no more until it does. */
  pause(): void {
    if (!this.#open || this.#stalledSince !== undefined) return;
    this.#stalledSince = performance.now();
    this.service.loaded?.engine.pause(this.request.id);
  }

  resume(): void {
    if (this.#stalledSince === undefined) return;
    this.service.metrics.streamStall.inc((performance.now() - this.#stalledSince) / 1000);
    this.#stalledSince = undefined;
    if (this.#open) this.service.loaded?.engine.resume(this.request.id);
  }

  #observe(event: TokenEvent): void {
    const { metrics } = this.service;
    const now = performance.now();
    switch (event.type) {
      case 'tokens': {
        const last = this.#lastTokenAt.get(event.choice);
        this.service.recent.token(this.#times!, last === undefined ? undefined : now - last);
        if (last === undefined) metrics.timeToFirstToken.observe((now - this.#startedAt) / 1000);
        else metrics.interToken.observe((now - last) / 1000);
        this.#lastTokenAt.set(event.choice, now);
        break;
      }
      case 'finish':
        this.#reason = event.reason;
        break;
      case 'done':
        this.usage = event.usage;
        metrics.queueTime.observe(event.usage.queueMs / 1000);
        this.#close();
        break;
      case 'error':
        this.#reason = 'error';
        this.#close();
        break;
    }
  }

  #close(): void {
    this.#open = false;
    this.resume();
    // Whoever asked may have left before it began.
    if (!this.#times) return;
    const { metrics, recent } = this.service;
    recent.end(this.#times, this.#reason, this.usage?.cachedTokens ?? null);
    metrics.activeRequests.dec();
    metrics.requests.inc({ finished_reason: this.#reason });
    metrics.endToEnd.observe((performance.now() - this.#startedAt) / 1000);
  }
}
