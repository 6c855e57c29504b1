import { outputReserve } from '../kv/admission.js';
import type { Memory, Squeezable } from './memory.js';
import { outranks, type Work } from './work.js';

/** The scheduler's side of a sequence that loses its slot, or has it back. */
export interface Residents<W> {
  /** Sequences that have a slot. */
  holders(): Iterable<W>;
  /** It has given up its slot. */
  left(work: W): void;
  /** It has lost what was computed, and waits as if it were new. */
  mustStartAnew(work: W): void;
}

/**
 * Finds room for running sequences when KV memory is short. Where that is allowed, sequences are squeezed first. Then what
 * nobody reads gives way, then the sequence that all others outrank: it is copied to host memory, or computed anew where
 * that is full. None gives way to one that it outranks, so the first of all always gets on.
 */
export class Room<W extends Work> {
  /** In host memory, the first by rank first. */
  readonly #swapped: W[] = [];
  /** Copies to host memory that run, whose pages are not free yet. */
  #leaving = 0;
  /** The first by rank that found no room for its next tokens. */
  #needy: W | undefined;
  /** The one that left because its own pages lay in its way, until it has been packed. */
  #reordered: W | undefined;
  #preemptions = 0;
  #swapsOut = 0;
  #swapsIn = 0;

  constructor(
    private readonly memory: Memory<W>,
    private readonly residents: Residents<W>,
  ) {}

  /** Totals since the start. */
  get counts() {
    return { preemptions: this.#preemptions, swapsOut: this.#swapsOut, swapsIn: this.#swapsIn };
  }

  /** Sequences in host memory. */
  get swapped(): number {
    return this.#swapped.length;
  }

  /** Whether a sequence that has a slot waits for others to give way. */
  get isShort(): boolean {
    return this.#isNeedy(this.#needy);
  }

  /** Room for so many more tokens of a sequence that has a slot, whoever must give way for it. */
  make(work: W, tokens: number): boolean {
    // Where nothing is left there is no room to squeeze either.
    if (!this.memory.makeRoomToSqueeze()) this.#squeeze();
    return this.#press(work, () => this.memory.reserve(work, work.computedTokens + tokens));
  }

  /** Has a sequence packed that must be, and what will have to be soon; whoever must give way for it. */
  pack(work: W): void {
    if (work.paused || !this.memory.mustPack(work)) {
      this.memory.pack(work);
      return;
    }
    const isPacked = this.#withFar(work, () => this.#press(work, () => this.memory.pack(work)));
    if (isPacked || !this.#isLone(work)) return;
    // Its own pages lie between the free ones, so that none of these is of use: it leaves, and comes back in order. Or one
    // in host memory that outranks it keeps there what it needs, and can go on when it has left.
    this.#reordered = work;
    this.#preempt(work);
  }

  /** A slot for a sequence that waits, unless one before it needs the memory, or leaves what it begins with in a moment. */
  admit(work: W): boolean {
    if (this.#mustYield(work) || this.#nextToReturn() || this.memory.mustAwait(work)) return false;
    return this.#withFar(work, () =>
      this.#withPausedOut(() => this.memory.admit(work, this.#reserveFor(work))),
    );
  }

  /** Swapped sequences come back by rank, before anyone new starts. */
  bringBack(): void {
    for (let work = this.#nextToReturn(); work; work = this.#nextToReturn()) {
      const returning = work;
      if (this.#mustYield(returning)) return;
      if (!this.#withPausedOut(() => this.memory.swapIn(returning, this.#reserveFor(returning)))) return;
      this.#forget(returning);
      returning.phase = 'swappingIn';
    }
  }

  /** The copy to host memory is done; the slot is free. */
  swappedOut(work: W): void {
    this.#leaving--;
    if (work === this.#reordered) this.memory.giveUpKept();
    if (work.phase === 'ended') {
      this.memory.dropSwapped(work);
      return;
    }
    this.addSwapped(work);
  }

  /** A sequence whose KV is in host memory. */
  addSwapped(work: W): void {
    work.phase = 'swapped';
    const index = this.#swapped.findIndex((other) => outranks(work, other));
    this.#swapped.splice(index < 0 ? this.#swapped.length : index, 0, work);
  }

  /** The copy back is done. False if nobody wants the sequence any more. */
  swappedIn(work: W): boolean {
    if (work.phase === 'ended') {
      this.memory.release(work);
      return false;
    }
    this.#swapsIn++;
    return true;
  }

  /** A swapped sequence is not wanted any more. */
  drop(work: W): void {
    this.#forget(work);
    this.memory.dropSwapped(work);
  }

  #press(work: W, attempt: () => boolean): boolean {
    while (!attempt()) {
      if (!this.#squeeze() && (this.#takeFromPaused() || this.#takeFromLast(work))) continue;
      if (!this.#isNeedy(this.#needy) || outranks(work, this.#needy)) this.#needy = work;
      return false;
    }
    if (this.#needy === work) this.#needy = undefined;
    if (this.#reordered === work) this.#reordered = undefined;
    return true;
  }

  #isLone(work: W): boolean {
    for (const holder of this.residents.holders()) if (holder !== work) return false;
    return this.#leaving === 0;
  }

  #forget(work: W): void {
    this.#swapped.splice(this.#swapped.indexOf(work), 1);
  }

  /** The first swapped one that would run if it were back. */
  #nextToReturn(): W | undefined {
    return this.#swapped.find(({ paused }) => !paused);
  }

  /** When nothing else has a slot the reserve is waived, since no one else can take the memory. */
  #reserveFor(work: W): number {
    const [someone] = this.residents.holders();
    return outputReserve(work.remainingOutput, someone === undefined);
  }

  #isNeedy(work: W | undefined): work is W {
    if (work === undefined || work.paused) return false;
    const { phase } = work;
    // Who came back beside it would lie in its way again.
    const isOnItsWay = phase === 'swappingOut' || phase === 'swapped' || phase === 'swappingIn';
    return phase === 'prefill' || phase === 'decode' || (work === this.#reordered && isOnItsWay);
  }

  /** Whether memory must be left to one that outranks it and found no room for its next tokens. */
  #mustYield(work: W): boolean {
    return this.#isNeedy(this.#needy) && outranks(this.#needy, work);
  }

  #withPausedOut(attempt: () => boolean): boolean {
    while (!attempt()) {
      // Where it is slots that are short, to squeeze someone is of no use.
      if ((this.memory.hasSlot && this.#squeeze()) || !this.#takeFromPaused()) return false;
    }
    return true;
  }

  /** Squeezes the sequence that loses least by it, of these the one of which most can be. True if that will free memory. */
  #squeeze(): boolean {
    let best: W | undefined;
    let most: Squeezable | undefined;
    for (const work of this.residents.holders()) {
      const found = this.memory.squeezable(work);
      if (!found) continue;
      if (most && (found.rung > most.rung || (found.rung === most.rung && found.tokens <= most.tokens)))
        continue;
      best = work;
      most = found;
    }
    return best !== undefined && this.memory.squeeze(best);
  }

  /** A reader that does not keep up must not hold memory that someone else could use. True if memory came free. */
  #takeFromPaused(): boolean {
    for (const work of this.residents.holders()) {
      if (work.paused && !work.inFlight && !work.packing) return this.#preempt(work);
    }
    return false;
  }

  #takeFromLast(keep: W): boolean {
    let last: W | undefined;
    for (const work of this.residents.holders()) {
      if (work === keep || work.inFlight || work.packing) continue;
      if (!last || outranks(last, work)) last = work;
    }
    return last !== undefined && outranks(keep, last) && this.#preempt(last);
  }

  /** What is swapped keeps its far pages: those that are outranked, or paused, start anew where these are in the way. */
  #withFar(work: W, attempt: () => boolean): boolean {
    let isDone = attempt();
    while (!isDone && this.#takeFarFromSwapped(work)) isDone = attempt();
    return isDone;
  }

  #takeFarFromSwapped(keep: W): boolean {
    for (const work of this.#swapped.toReversed()) {
      if (!work.paused && outranks(work, keep)) continue;
      if (!this.memory.giveUpFar(work, keep)) continue;
      this.#forget(work);
      work.phase = 'waiting';
      this.residents.mustStartAnew(work);
      return true;
    }
    return false;
  }

  /** True if memory came free at once; a copy frees it at its end. */
  #preempt(work: W): boolean {
    // What is on its way out will be free soon; taking more would be too much.
    if (this.#leaving > 0) return false;
    this.#preemptions++;
    this.residents.left(work);
    if (work.computedTokens > 0 && this.memory.canSwap(work)) {
      this.#swapsOut++;
      this.#leaving++;
      work.phase = 'swappingOut';
      this.memory.swapOut(work);
      return false;
    }
    this.memory.release(work);
    if (work === this.#reordered) this.memory.giveUpKept();
    work.phase = 'waiting';
    this.residents.mustStartAnew(work);
    return true;
  }
}
