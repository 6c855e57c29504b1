import { blocksFor } from './admission.js';

/** Tokens between two moves of what has become old into the mid partition, at most. */
const longestStride = 256;

export interface PartitionSizes {
  /** The first tokens, which stay exact and are never given up. */
  readonly sinkTokens: number;
  /** The newest tokens, which are exact. */
  readonly recentTokens: number;
  /** Tokens between them that are held, packed. */
  readonly midTokens: number;
  /** Older ones that are held too, packed, in host memory; absent: none. What is older than these is given up. */
  readonly farTokens?: number;
  /** Pages of mid and far that a token looks at. */
  readonly topPages: number;
}

/**
 * Which tokens of an endless sequence are held, and how: a *sink* of first tokens, exact; the newest, *recent* ones, exact;
 * of those between them the newest as *mid*, packed into int4, and what is older *far*, the same in host memory; the rest is
 * dropped. What is packed and what is dropped follows from the position alone: before each token whose position is a multiple
 * of the stride, what is older than the recent tokens moves into mid, and what mid and far have too much is dropped. So an
 * answer is the same however its prompt was cut into steps and whatever runs beside it. Where packed bytes lie changes none.
 */
export class PartitionRule {
  readonly sinkTokens: number;
  readonly recentTokens: number;
  readonly midTokens: number;
  readonly farTokens: number;
  readonly topPages: number;
  /** Tokens between two moves. No more than the recent ones, so that what moves next can be packed ahead of time. */
  readonly stride: number;

  constructor(
    sizes: PartitionSizes,
    readonly pageTokens: number,
  ) {
    const whole = (tokens: number) => blocksFor(tokens, pageTokens) * pageTokens;
    this.sinkTokens = whole(sizes.sinkTokens);
    this.recentTokens = whole(sizes.recentTokens);
    this.midTokens = whole(sizes.midTokens);
    this.farTokens = whole(sizes.farTokens ?? 0);
    this.topPages = sizes.topPages;
    this.stride = Math.min(longestStride, this.recentTokens);
  }

  /** Tokens that are seen at once, at most. */
  get mostSeen(): number {
    return this.mostExact + this.topPages * this.pageTokens;
  }

  /** Tokens that are exact at once, at most. */
  get mostExact(): number {
    return this.sinkTokens + this.recentTokens + this.stride;
  }

  /** Tokens that are held at once when a step ends, at most. */
  get mostHeld(): number {
    return this.mostExact + this.midTokens + this.farTokens;
  }

  /** Tokens that are packed and not far at once, at most: mid, what moves next, and what is on its way to be far. */
  get mostPacked(): number {
    return this.midTokens + this.stride * (this.farTokens > 0 ? 2 : 1);
  }

  /** Tokens that are computed while all is exact: what they hold is the same under every rule. */
  get exactTokens(): number {
    return this.nextAt(this.sinkTokens + this.recentTokens);
  }

  /** Where mid ends when the token at `position` is computed; nothing is in it where that is not behind the sink. */
  midEndAt(position: number): number {
    const moved = Math.floor(position / this.stride) * this.stride;
    return Math.max(this.sinkTokens, moved - this.recentTokens);
  }

  /** So many tokens are far when the one at `position` is computed. */
  farTokensAt(position: number): number {
    const old = this.midEndAt(position) - this.sinkTokens - this.midTokens;
    return Math.min(this.farTokens, Math.max(0, old));
  }

  /** The first position behind `position` at which more moves. */
  nextAt(position: number): number {
    return (Math.floor(position / this.stride) + 1) * this.stride;
  }
}
