import type { Squeezable } from '../scheduler/memory.js';
import type { Sequence } from '../sequence.js';
import type { FreeMemory } from './free-memory.js';
import type { PressureRule, Squeeze } from './pressure-rule.js';
import type { SequencePacking } from './sequence-packing.js';

/** Squeezes running sequences when memory is short, down the rule's ladder. The verbs are those of `Memory`. */
export class Squeezing {
  constructor(
    private readonly rule: PressureRule,
    private readonly packing: SequencePacking,
    private readonly free: FreeMemory,
  ) {}

  makeRoom(): boolean {
    return this.free.make(this.packing.room + 1);
  }

  squeezable(sequence: Sequence): Squeezable | undefined {
    const squeeze = this.#next(sequence);
    if (!squeeze) return undefined;
    const { rung, end } = squeeze;
    if (this.#isDrop(squeeze)) return { rung, tokens: sequence.rungTokens - end };
    return { rung, tokens: end - (rung === sequence.rung ? sequence.rungTokens : 0) };
  }

  squeeze(sequence: Sequence): boolean {
    const squeeze = this.#next(sequence);
    if (!squeeze) return false;
    if (this.#isDrop(squeeze)) sequence.dropDueTokens = sequence.rungTokens - squeeze.end;
    else squeezeTo(sequence, squeeze);
    if (sequence.packing || sequence.inFlight) return true;
    this.packing.pack(sequence);
    return sequence.packing;
  }

  #isDrop({ rung }: Squeeze): boolean {
    return rung === this.rule.rungs.length;
  }

  #next(sequence: Sequence): Squeeze | undefined {
    const { rung, rungTokens, squeezedTokens, packing, request } = sequence;
    const most = request.request.kvPressure;
    if (most === 'off') return undefined;
    const next = this.rule.next(sequence, most);
    // What is under way frees memory too, and comes first.
    const isUnderWay = packing || squeezedTokens > rungTokens;
    return isUnderWay && next?.rung !== rung ? { rung, end: squeezedTokens } : next;
  }
}

function squeezeTo(sequence: Sequence, { rung, end }: Squeeze): void {
  if (rung !== sequence.rung) {
    sequence.rung = rung;
    sequence.rungTokens = 0;
    sequence.convertedTokens = 0;
    sequence.packingPlan = undefined;
  }
  sequence.squeezedTokens = end;
}
