import type { PackingPlan } from './kv/packing-plan.js';
import type { CacheNode } from './kv/prefix-cache.js';
import type { Saliency } from './kv/saliency.js';
import type { PrefillSight } from './kv/sparse-prefill.js';
import type { TokenStream } from './model/text.js';
import type { RequestState } from './request-state.js';
import { codePointsIn } from './sampling/logprobs.js';
import { choiceSeed } from './sampling/params.js';
import type { StopConditions } from './sampling/stop-conditions.js';
import type { Phase, Work } from './scheduler/work.js';
import { TokenList } from './token-list.js';

/** One choice of a request, from its arrival to its last token. The scheduler and its memory own the mutable fields. */
export class Sequence implements Work {
  phase: Phase = 'waiting';
  inFlight = false;
  packing = false;
  computedTokens = 0;
  /** So many lie in pages that were converted: its first ones, or those of its mid partition. */
  packedTokens = 0;
  /** So many of these, its oldest packed ones, are far. */
  farTokens = 0;
  /** So many, of those that were computed, are held no more; the counts of packed tokens do not have them. */
  droppedTokens = 0;
  /** So many lie in pages of the form that it is packed into now, which are made but perhaps not due yet. */
  convertedTokens = 0;
  /** Place in the forms that sequences are squeezed into one after another; so many are in that form already. */
  rung = 0;
  rungTokens = 0;
  /** So many are to be in that form because memory is short. */
  squeezedTokens = 0;
  /** So many, behind its sink, are to be dropped then because even that is too much. */
  dropDueTokens = 0;
  /** The classes of the pages of each such block, as keys (`keyOf`), and the bytes of all. */
  packedClasses: string[] = [];
  packedBytes = 0;
  packingPlan: PackingPlan | undefined;
  /** Where it looks, if that decides how it is packed. */
  saliency: Saliency | undefined;
  /** Where the rows of its prompt look, if not everywhere. */
  sight: PrefillSight | undefined;
  /** -1: none. */
  slot = -1;
  /** Prompt, then what was generated. */
  readonly tokens: TokenList;
  /** The same, with the key of an image in place of each of its tokens: equal only where sequences are. */
  readonly identity: TokenList;
  /** Cached blocks it runs on, from the first; once it is packed, on the packed form of the first ones. */
  path: CacheNode[] = [];
  readonly seed: bigint;
  /** Code points of its answer that are certain; counted where log probabilities are asked for. */
  decodedLength = 0;

  constructor(
    readonly request: RequestState,
    readonly choice: number,
    readonly serial: number,
    readonly stops: StopConditions,
    readonly stream: TokenStream,
  ) {
    const { prompt, maxTokens } = request.request;
    this.tokens = new TokenList(prompt, maxTokens);
    const { embeddedPrompt } = request;
    this.identity = embeddedPrompt ? new TokenList(embeddedPrompt.identity, maxTokens) : this.tokens;
    this.seed = choiceSeed(request.seed, choice);
  }

  push(token: number): void {
    this.tokens.push(token);
    if (this.identity !== this.tokens) this.identity.push(token);
  }

  /** The text that has become certain with this token of the answer. */
  decode(token: number): string {
    const text = this.stream.push(token);
    if (this.request.request.logprobs >= 0) this.decodedLength += codePointsIn(text);
    return text;
  }

  /** Nothing of it is computed any more. */
  forget(): void {
    this.computedTokens = 0;
    this.packedTokens = 0;
    this.farTokens = 0;
    this.droppedTokens = 0;
    this.convertedTokens = 0;
    this.rung = 0;
    this.rungTokens = 0;
    this.squeezedTokens = 0;
    this.dropDueTokens = 0;
    this.packedClasses = [];
    this.packedBytes = 0;
    this.packingPlan = undefined;
    this.saliency = undefined;
    this.sight = undefined;
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

  get paused(): boolean {
    return this.request.paused;
  }

  get tokenCount(): number {
    return this.tokens.length;
  }

  get promptTokens(): number {
    return this.request.request.prompt.length;
  }

  /** Tokens that lie as steps wrote them. */
  get unpackedTokens(): number {
    return this.computedTokens - this.droppedTokens - this.packedTokens;
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

  /** Its prompt's tokens are scored while they are read, so none may come from the cache or from a copy. */
  get isScored(): boolean {
    return this.request.promptScore !== undefined;
  }
}
