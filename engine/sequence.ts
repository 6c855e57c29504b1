import type { CacheNode } from './kv/prefix-cache.js';
import type { TokenStream } from './model/text.js';
import type { RequestState } from './request-state.js';
import { choiceSeed } from './sampling/params.js';
import type { StopConditions } from './sampling/stop-conditions.js';
import type { PrefillWork } from './scheduler/prefill-queue.js';
import { TokenList } from './token-list.js';

/**
 * waiting: no slot, nothing computed. prefill: has a slot, its prompt is being read. decode: one token a step. ended: its
 * slot is free, or will be when the step in flight is done.
 */
export type Phase = 'waiting' | 'prefill' | 'decode' | 'ended';

/** One choice of a request, from its arrival to its last token. */
export class Sequence implements PrefillWork {
  phase: Phase = 'waiting';
  slot = -1;
  /** A step that names the slot is running; native state must be left alone. */
  inFlight = false;
  /** Prompt, then what was generated. */
  readonly tokens: TokenList;
  /** Of `tokens`, those whose KV is there. */
  computedTokens = 0;
  /** Cached blocks it runs on, from the first. */
  path: CacheNode[] = [];
  readonly seed: bigint;

  constructor(
    readonly request: RequestState,
    readonly choice: number,
    readonly stops: StopConditions,
    readonly stream: TokenStream,
  ) {
    const { prompt, maxTokens } = request.request;
    this.tokens = new TokenList(prompt, maxTokens);
    this.seed = choiceSeed(request.seed, choice);
  }

  get arrivalMs(): number {
    return this.request.arrivalMs;
  }

  get priority(): number {
    return this.request.request.priority;
  }

  get deadlineMs(): number {
    return this.request.deadlineMs;
  }

  get promptTokens(): number {
    return this.request.request.prompt.length;
  }

  get generatedTokens(): number {
    return this.tokens.length - this.promptTokens;
  }

  /** Tokens to compute before the next one can be sampled. */
  get remainingTokens(): number {
    return this.tokens.length - this.computedTokens;
  }

  get remainingOutput(): number {
    return this.request.request.maxTokens - this.generatedTokens;
  }
}
