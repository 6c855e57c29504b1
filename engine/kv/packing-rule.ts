import type { BornClass } from '../device/device.js';
import { decidesByAttention, type PackedForm } from './page-classes.js';
import { type ProbeRun, probesAmong } from './probes.js';

/** Tokens between two packings of a growing sequence. */
export const packingStride = 64;

/**
 * Which tokens of a sequence are *packed*, and of what class those are that are not yet. It follows from the length of the
 * prompt and the position alone, never from chunks or from time, so that a request has the same answer whatever runs beside
 * it:
 *
 * - While a prompt is read, all of it is exact: a chunk sees what it would see if the prompt were read in one step.
 * - Before the first token behind the prompt is computed, every full page is packed that is older than the recent tokens, and
 *   those become pages of the recent class.
 * - From then on tokens are written to pages of that class, and before each token whose position is a multiple of 64, what has
 *   become older is packed.
 *
 * So a token is packed once and stays so. Where pages are packed differently, what decides are the sequence's probes up to a
 * page before.
 */
export class PackingRule {
  /** Tokens that are not packed, behind the newest: whole pages. */
  readonly recentTokens: number;

  /** `recent`: the class of the pages that are not packed, the prompt read. */
  constructor(
    readonly form: PackedForm,
    recentTokens: number,
    readonly pageTokens: number,
    readonly recent: BornClass = 'int8',
  ) {
    this.recentTokens = Math.ceil(recentTokens / pageTokens) * pageTokens;
  }

  /** Tokens of a sequence that are not packed at once, its prompt read, at most. */
  get mostRecentTokens(): number {
    return this.recentTokens + this.pageTokens + packingStride;
  }

  /** Whether where a sequence looks decides how it is packed. */
  get probes(): boolean {
    return decidesByAttention(this.form);
  }

  /** How many tokens, from the first on, are packed when the token at `position` is computed. */
  packedAt(promptTokens: number, position: number): number {
    if (position < promptTokens) return 0;
    const since = this.#sinceAt(promptTokens, position);
    return Math.max(0, Math.floor((since - this.recentTokens) / this.pageTokens) * this.pageTokens);
  }

  /** How many of the prompt's tokens lie in the recent class, or are packed, when the token at `position` is computed. */
  roundedAt(promptTokens: number, position: number): number {
    return this.recent === 'bf16' || position < promptTokens ? 0 : promptTokens;
  }

  /** The first position behind `position` at which the class of some page is another. */
  nextAt(promptTokens: number, position: number): number {
    const changes = this.recent !== 'bf16' || this.packedAt(promptTokens, promptTokens) > 0;
    if (position < promptTokens && changes) return promptTokens;
    const from = Math.max(position, promptTokens);
    const atLeast = Math.ceil((this.recentTokens + this.pageTokens) / packingStride) * packingStride;
    return Math.max((Math.floor(from / packingStride) + 1) * packingStride, atLeast);
  }

  /** Tokens that are computed while all is exact: what they hold is the same under every rule. */
  exactTokens(promptTokens: number): number {
    return this.nextAt(promptTokens, 0);
  }

  /** The probes that decide what is packed when the token at `position` is computed lie before this position. */
  decidedAt(promptTokens: number, position: number): number {
    return Math.max(promptTokens, this.#sinceAt(promptTokens, position) - this.pageTokens);
  }

  /** Of the tokens [begin, end), those whose attention decides. */
  probesAmong(promptTokens: number, begin: number, end: number): ProbeRun[] {
    return this.probes ? probesAmong(promptTokens, begin, end) : [];
  }

  /** When what is packed at `position` was packed. */
  #sinceAt(promptTokens: number, position: number): number {
    return Math.max(promptTokens, Math.floor(position / packingStride) * packingStride);
  }
}
