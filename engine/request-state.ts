import type { GrammarHandle } from './device/device.js';
import type { EngineError } from './errors.js';
import type { EmbeddedPrompt, PlacedImage } from './images/embed-prompt.js';
import type { Session } from './kv/session.js';
import type { Tokenizer } from './model/text.js';
import { PromptScore } from './sampling/logprobs.js';
import { randomSeed } from './sampling/params.js';
import type { Sequence } from './sequence.js';
import type { GenerateRequest, KvUsage, TokenEvent } from './types.js';

/** A request while the engine owns it: its choices, and the events that wait for the end of the step. */
export class RequestState {
  readonly seed: bigint;
  readonly deadlineMs: number;
  readonly promptScore: PromptScore | undefined;
  readonly sequences: Sequence[] = [];
  /** Open while the engine owns the request. */
  grammar: GrammarHandle | undefined;
  /** Of the request, in their order; used while the engine owns the request, or until its session takes them over. */
  images: readonly PlacedImage[] = [];
  /** Where it or its session has images, once they are encoded. */
  embeddedPrompt: EmbeddedPrompt | undefined;
  paused = false;
  ended = false;
  cachedTokens = 0;
  completionTokens = 0;
  #kv: KvUsage = { tokens: 0, droppedTokens: 0, farTokens: 0, bytes: 0, layers: [] };
  /** NaN until it happened. */
  startedMs = Number.NaN;
  firstTokenMs = Number.NaN;
  #events: TokenEvent[] = [];

  constructor(
    readonly request: GenerateRequest,
    readonly arrivalMs: number,
    tokenizer: Tokenizer,
    readonly onEvents: (events: readonly TokenEvent[]) => void,
    /** That its sequence goes on with. */
    readonly session?: Session,
  ) {
    this.seed = request.sampling.seed ?? randomSeed();
    const { deadlineMs = Number.POSITIVE_INFINITY, passedMs = 0 } = request;
    this.deadlineMs = arrivalMs + deadlineMs - passedMs;
    this.promptScore = request.promptLogprobs ? new PromptScore(tokenizer) : undefined;
  }

  get hasEvents(): boolean {
    return this.#events.length > 0;
  }

  emit(event: TokenEvent): void {
    if (!this.ended) this.#events.push(event);
  }

  get kv(): KvUsage {
    return this.#kv;
  }

  /** Of a sequence that has ended. */
  addKv({ tokens, droppedTokens, farTokens, bytes, layers }: KvUsage): void {
    const { layers: before } = this.#kv;
    this.#kv = {
      tokens: this.#kv.tokens + tokens,
      droppedTokens: this.#kv.droppedTokens + droppedTokens,
      farTokens: this.#kv.farTokens + farTokens,
      bytes: this.#kv.bytes + bytes,
      layers: layers.map(({ high, all }, layer) => ({
        high: high + (before[layer]?.high ?? 0),
        all: all + (before[layer]?.all ?? 0),
      })),
    };
  }

  fail(error: EngineError): void {
    this.emit({ type: 'error', error });
    this.ended = true;
  }

  finish(): void {
    this.emit({
      type: 'done',
      usage: {
        promptTokens: this.request.prompt.length,
        cachedTokens: this.cachedTokens,
        completionTokens: this.completionTokens,
        queueMs: this.startedMs - this.arrivalMs,
        ttftMs: this.firstTokenMs - this.arrivalMs,
        ...(this.request.reportsKv && { kv: this.kv }),
      },
    });
    this.ended = true;
  }

  flush(): void {
    if (this.#events.length === 0) return;
    const events = this.#events;
    this.#events = [];
    this.onEvents(events);
  }
}
