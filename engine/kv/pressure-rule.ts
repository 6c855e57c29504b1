import { type PressureLevel, squeezesMore } from '../../config/kv-pressure.js';
import { decidesByAttention, type PackedForm } from './page-classes.js';
import type { PartitionRule } from './partition-rule.js';

/** Fewer tokens are not worth a conversion. */
const leastTokens = 128;

/** What a sequence may give: its older tokens in the form of a rung of the ladder. */
export interface Squeeze {
  /** Place in `PressureRule.rungs`; behind the last of them: its oldest tokens but the sink are dropped. */
  readonly rung: number;
  /** Tokens, from the first on, that are to be in it, or to be left in the last form. */
  readonly end: number;
}

/** Where a sequence stands on the ladder. What was dropped counts in none of the other figures but `computedTokens`. */
interface Squeezed {
  readonly promptTokens: number;
  readonly computedTokens: number;
  readonly droppedTokens: number;
  readonly rung: number;
  readonly rungTokens: number;
  readonly squeezedTokens: number;
}

/**
 * What running sequences are squeezed into when memory is short, before anyone waits or gives way: a ladder of forms, each
 * smaller than the one before. A sequence is on one rung, and goes down to the next one as a whole. Below the last there may
 * be partitions: of the packed tokens only sink and mid are kept, and from then on tokens see a selection of them. When that
 * happens follows from what else runs, and so do the answers from then on: the one place where they do, which is why an operator
 * must ask for it.
 */
export class PressureRule {
  /** Tokens that stay exact behind the newest: whole pages. */
  readonly recentTokens: number;

  constructor(
    readonly rungs: readonly PackedForm[],
    recentTokens: number,
    readonly pageTokens: number,
    readonly partitions?: PartitionRule,
  ) {
    this.recentTokens = Math.ceil(recentTokens / pageTokens) * pageTokens;
  }

  /** The rung whose pages are chosen by where a sequence looks, if there is one. */
  get chosenForm(): PackedForm | undefined {
    return this.rungs.find(decidesByAttention);
  }

  /**
   * The next squeeze of a sequence that may go as far as `most`, the mildest that is worth it: what has become older since the
   * last one comes first.
   */
  next(sequence: Squeezed, most: PressureLevel = 'pack'): Squeeze | undefined {
    const { promptTokens, computedTokens, droppedTokens, rung, rungTokens, squeezedTokens } = sequence;
    const allowed = this.rungs.filter((form) => !squeezesMore(levelOf(form), most)).length;
    if (allowed === 0 || computedTokens < promptTokens) return undefined;
    const exactFrom = computedTokens - droppedTokens - this.recentTokens;
    const end = Math.floor(exactFrom / this.pageTokens) * this.pageTokens;
    if (end - squeezedTokens >= leastTokens) return { rung, end };
    if (rung + 1 < allowed) return squeezedTokens >= leastTokens ? { rung: rung + 1, end } : undefined;
    if (most !== 'pack') return undefined;
    const kept = this.partitions ? this.partitions.sinkTokens + this.partitions.midTokens : rungTokens;
    return rungTokens - kept >= leastTokens ? { rung: this.rungs.length, end: kept } : undefined;
  }
}

function levelOf(form: PackedForm): PressureLevel {
  if (decidesByAttention(form)) return 'zip';
  return form.high === 'int8' ? 'int8' : 'int4';
}
