import type { FinishReason, GenerateRequest, TokenEvent, Usage } from '../engine/index.js';
import type { ApiKey } from './keys/api-key.js';
import type { RequestTimes } from './live/recent-requests.js';
import type { Service } from './service.js';

/**
 * One request at the engine, seen from the front end: it times what passes, charges it to its key, counts how it ended, and
 * cancels once if whoever asked has left.
 */
export class Generation {
  readonly #startedAt = performance.now();
  readonly #lastTokenAt = new Map<number, number>();
  #open = true;
  #reason: 'abort' | 'error' | FinishReason = 'abort';
  /** From its start on. */
  #times: RequestTimes | undefined;
  #generated = 0;
  #stalledSince: number | undefined;
  usage: Usage | undefined;

  constructor(
    private readonly service: Service,
    private readonly key: ApiKey,
    private readonly request: GenerateRequest,
    private readonly onEvents: (events: readonly TokenEvent[]) => void,
  ) {}

  /** Throws `ApiError` if the server takes no work. */
  start(): void {
    const { engine } = this.service.model;
    const { id, prompt, n } = this.request;
    this.service.metrics.activeRequests.inc();
    this.key.chargePrompt(prompt.length);
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

  /** The body that it is of is refused. What nothing came of is not charged. */
  withdraw(): void {
    if (!this.#open) return;
    if (this.#times) this.#giveBackUnanswered();
    this.cancel();
  }

  /** The reader does not keep up: decode no more until it does. */
  pause(): void {
    if (!this.#open || this.#stalledSince !== undefined) return;
    this.#stalledSince = performance.now();
    this.service.metrics.pausedRequests.inc();
    this.service.loaded?.engine.pause(this.request.id);
  }

  resume(): void {
    if (this.#stalledSince === undefined) return;
    this.service.metrics.streamStall.inc((performance.now() - this.#stalledSince) / 1000);
    this.#stalledSince = undefined;
    this.service.metrics.pausedRequests.dec();
    if (this.#open) this.service.loaded?.engine.resume(this.request.id);
  }

  #observe(event: TokenEvent): void {
    const { metrics } = this.service;
    const now = performance.now();
    switch (event.type) {
      case 'tokens': {
        this.key.chargeGenerated(event.tokens.length);
        this.#generated += event.tokens.length;
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
        // What the engine would not take, or lost before anything came of it, is not charged.
        this.#giveBackUnanswered();
        this.#close();
        break;
    }
  }

  #giveBackUnanswered(): void {
    if (this.#lastTokenAt.size === 0) this.key.giveBackPrompt(this.request.prompt.length);
  }

  #close(): void {
    this.#open = false;
    this.resume();
    // Whoever asked may have left before it began.
    if (!this.#times) return;
    const { metrics, recent, logger } = this.service;
    recent.end(this.#times, this.#reason, this.usage?.cachedTokens ?? null);
    logger.info(
      {
        id: this.request.id,
        key: this.key.name,
        promptTokens: this.request.prompt.length,
        generatedTokens: this.#generated,
        reason: this.#reason,
        ms: Math.round(performance.now() - this.#startedAt),
      },
      'generation',
    );
    metrics.activeRequests.dec();
    metrics.requests.inc({ finished_reason: this.#reason });
    metrics.endToEnd.observe((performance.now() - this.#startedAt) / 1000);
  }
}
