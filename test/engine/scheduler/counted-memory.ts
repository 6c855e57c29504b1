import type { Memory } from '../../../engine/scheduler/memory.js';
import type { Work } from '../../../engine/scheduler/work.js';

/** As `expect`, for what is checked millions of times. */
export function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`does not hold: ${what}`);
}

/** A sequence of counts alone. */
export class CountedWork implements Work {
  phase: Work['phase'] = 'waiting';
  inFlight = false;
  computedTokens = 0;
  paused = false;
  generated = 0;

  constructor(
    readonly serial: number,
    readonly arrivalMs: number,
    readonly promptTokens: number,
    readonly maxTokens: number,
    readonly priority = 0,
    readonly deadlineMs = Number.POSITIVE_INFINITY,
  ) {}

  get tokenCount(): number {
    return this.promptTokens + this.generated;
  }

  get remainingTokens(): number {
    return this.tokenCount - this.computedTokens;
  }

  get remainingOutput(): number {
    return this.maxTokens - this.generated;
  }
}

/** Slots, pages and host memory in numbers. Throws at whatever no device could do. */
export class CountedMemory implements Memory<CountedWork> {
  readonly pageTokens = 32;
  /** Pages of each sequence that has a slot. */
  readonly held = new Map<CountedWork, number>();
  /** Pages of each sequence in host memory. */
  readonly swapped = new Map<CountedWork, number>();
  /** Copies that run, for the test to end. */
  readonly leaving: CountedWork[] = [];
  readonly returning: CountedWork[] = [];
  evictions = 0;

  constructor(
    readonly slots: number,
    readonly pages: number,
    readonly hostPages: number,
  ) {}

  get used(): number {
    let used = 0;
    for (const pages of this.held.values()) used += pages;
    return used;
  }

  kvBytesPerToken(): number {
    return 1000;
  }

  usage(): number {
    return this.used / this.pages;
  }

  cachedTokens(): number {
    return 0;
  }

  admit(work: CountedWork, reserveTokens: number): boolean {
    must(!this.held.has(work) && work.phase === 'waiting', 'who waits has no slot');
    if (this.held.size === this.slots) return false;
    if (this.#pagesFor(work.tokenCount + reserveTokens) > this.pages - this.used) return false;
    this.held.set(work, 0);
    work.computedTokens = 0;
    return true;
  }

  reserve(work: CountedWork, tokens: number): boolean {
    const held = this.held.get(work);
    must(held !== undefined, 'pages are reserved for a slot');
    const needed = Math.max(held!, this.#pagesFor(tokens));
    if (needed - held! > this.pages - this.used) return false;
    this.held.set(work, needed);
    return true;
  }

  fork(from: CountedWork, to: CountedWork): boolean {
    must(this.held.has(from) && !this.held.has(to), 'a fork goes from a slot to none');
    const pages = this.#pagesFor(from.promptTokens - 1);
    if (this.held.size === this.slots || pages > this.pages - this.used) return false;
    this.held.set(to, pages);
    to.computedTokens = from.promptTokens - 1;
    return true;
  }

  release(work: CountedWork): void {
    must(!work.inFlight, 'a slot in flight is left alone');
    must(this.held.delete(work), 'a slot is released once');
  }

  canSwap(work: CountedWork): boolean {
    let inHost = 0;
    for (const pages of this.swapped.values()) inHost += pages;
    for (const leaving of this.leaving) inHost += this.held.get(leaving)!;
    return inHost + this.held.get(work)! <= this.hostPages;
  }

  swapOut(work: CountedWork): void {
    must(!work.inFlight && this.held.has(work), 'a slot is copied that is not in flight');
    this.leaving.push(work);
  }

  /** The copy of `work` to host memory is done. */
  endSwapOut(work: CountedWork): void {
    this.leaving.splice(this.leaving.indexOf(work), 1);
    this.swapped.set(work, this.held.get(work)!);
    this.held.delete(work);
  }

  swapIn(work: CountedWork, reserveTokens: number): boolean {
    must(this.swapped.has(work), 'what comes back was copied');
    if (this.held.size === this.slots) return false;
    if (this.#pagesFor(work.tokenCount + reserveTokens) > this.pages - this.used) return false;
    this.held.set(work, this.swapped.get(work)!);
    this.returning.push(work);
    return true;
  }

  /** The copy of `work` back is done. */
  endSwapIn(work: CountedWork): void {
    this.returning.splice(this.returning.indexOf(work), 1);
    this.swapped.delete(work);
  }

  dropSwapped(work: CountedWork): void {
    must(this.swapped.delete(work), 'a copy is dropped once');
  }

  #pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageTokens);
  }
}
