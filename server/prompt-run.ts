import type { Response } from 'express';
import { milder } from '../config/kv-pressure.js';
import type { Usage } from '../engine/index.js';
import { Generation } from './generation.js';
import type { ApiKey } from './keys/api-key.js';
import { toApiError } from './openai/errors.js';
import type { PreparedPrompt } from './prepare/prepared.js';
import type { Service } from './service.js';
import { type AnswerEvent, ToolCallEvents } from './tools/tool-call-events.js';

/** The prompts of one body at the engine, side by side. */
export class PromptRun {
  readonly #generations: Generation[];
  #onEvents: (prompt: number, events: readonly AnswerEvent[]) => void = () => undefined;
  readonly #ended: Promise<void>;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;
  #left = false;

  constructor(
    service: Service,
    key: ApiKey,
    readonly id: string,
    prompts: readonly PreparedPrompt[],
  ) {
    this.#ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    let open = prompts.length;
    this.#generations = prompts.map(({ request, toolCalls, partNames }, prompt) => {
      const calls = toolCalls && new ToolCallEvents(toolCalls);
      const ownId = prompts.length > 1 ? `${id}-${prompt}` : id;
      const allowed = {
        priority: Math.min(request.priority, key.maxPriority),
        kvPressure: milder(key.kvPressure, request.kvPressure ?? 'pack'),
      };
      return new Generation(service, key, { ...request, ...allowed, id: ownId }, (events) => {
        this.#onEvents(prompt, calls ? calls.next(events) : events);
        const last = events.at(-1);
        if (last?.type === 'error') this.#fail(toApiError(last.error, partNames));
        if (last?.type === 'done' && --open === 0) this.#resolve();
      });
    });
  }

  /** Resolves when all are done, or cancelled; rejects with the first error, the others cancelled. */
  run(onEvents: (prompt: number, events: readonly AnswerEvent[]) => void): Promise<void> {
    if (this.#left) return this.#ended;
    this.#onEvents = onEvents;
    try {
      for (const generation of this.#generations) generation.start();
    } catch (error) {
      this.#fail(error);
    }
    return this.#ended;
  }

  /** Cancels when the client of `response` leaves. */
  endWith(response: Response): void {
    response.on('close', () => this.cancel());
    if (response.destroyed) this.cancel();
  }

  /** Whoever asked has left. */
  cancel(): void {
    this.#left = true;
    for (const generation of this.#generations) generation.cancel();
    this.#resolve();
  }

  pause(): void {
    for (const generation of this.#generations) generation.pause();
  }

  resume(): void {
    for (const generation of this.#generations) generation.resume();
  }

  /** Of the prompts that are done. */
  get usages(): Usage[] {
    return this.#generations.flatMap(({ usage }) => usage ?? []);
  }

  #fail(error: unknown): void {
    this.#reject(error);
    for (const generation of this.#generations) generation.withdraw();
  }
}
