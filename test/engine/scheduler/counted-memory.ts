import type { PackingRule } from '../../../engine/kv/packing-rule.js';
import type { Memory, Squeezable } from '../../../engine/scheduler/memory.js';
import type { Work } from '../../../engine/scheduler/work.js';

/** As `expect`, for what is checked millions of times. */
export function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`does not hold: ${what}`);
}

/** A sequence of counts alone. */
export class CountedWork implements Work {
  phase: Work['phase'] = 'waiting';
  inFlight = false;
  packing = false;
  computedTokens = 0;
  paused = false;
  generated = 0;
  /** Pages that are packed, and that are made but perhaps not due. */
  packedPages = 0;
  convertedPages = 0;

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

/** Of a page, what it takes when it is packed. */
const packedSize = 0.25;
/** Pages that are not squeezed, and that must be there for a squeeze to be worth it. */
const squeezedBehind = 2;

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
  /** Conversions that run. */
  readonly converting: CountedWork[] = [];

  constructor(
    readonly slots: number,
    readonly pages: number,
    readonly hostPages: number,
    readonly rule?: PackingRule,
    /** Whether sequences are packed for lack of memory. */
    readonly squeezes = false,
  ) {}

  get used(): number {
    let used = 0;
    for (const [work, pages] of this.held) used += this.#sizeOf(work, pages);
    return used;
  }

  /** Pages that stay free when someone starts, so that there is room to pack. */
  get packRoom(): number {
    return this.rule || this.squeezes ? 1 : 0;
  }

  get hasSlot(): boolean {
    return this.held.size < this.slots;
  }

  giveUpFar(): boolean {
    return false;
  }

  makeRoomToSqueeze(): boolean {
    return !this.squeezes || this.pages - this.used > 4;
  }

  /** Pages that are squeezed when memory is short, the newest excepted. */
  squeezable(work: CountedWork): Squeezable | undefined {
    const tokens = this.#squeezablePages(work) * this.pageTokens;
    return tokens > 0 ? { rung: 0, tokens } : undefined;
  }

  #squeezablePages(work: CountedWork): number {
    if (!this.squeezes || work.computedTokens < work.promptTokens) return 0;
    const older = Math.floor(work.computedTokens / this.pageTokens) - squeezedBehind;
    return older - work.packedPages >= squeezedBehind ? older - work.packedPages : 0;
  }

  squeeze(work: CountedWork): boolean {
    if (work.packing || work.inFlight) return true;
    const end = work.packedPages + this.#squeezablePages(work);
    this.#finishSqueezed(work);
    return work.packedPages < end && this.#convert(work, end);
  }

  /** What was squeezed may be put in place between two steps. */
  #finishSqueezed(work: CountedWork): void {
    if (!work.packing) work.packedPages = work.convertedPages;
  }

  get packs(): boolean {
    return this.rule !== undefined || this.squeezes;
  }

  kvBytesPerToken(): number {
    return 1000;
  }

  contextOf(work: CountedWork): number {
    return work.computedTokens;
  }

  usage(): number {
    return this.used / this.pages;
  }

  cachedTokens(): number {
    return 0;
  }

  /** Some begin alike. */
  mustAwait(work: CountedWork): boolean {
    return [...this.held.keys()].some(
      ({ phase, serial }) => phase === 'ended' && (serial + work.serial) % 3 === 0,
    );
  }

  admit(work: CountedWork, reserveTokens: number): boolean {
    must(!this.held.has(work) && work.phase === 'waiting', 'who waits has no slot');
    if (this.held.size === this.slots) return false;
    if (this.#mostPages(work, work.tokenCount + reserveTokens) > this.pages - this.used) return false;
    this.held.set(work, 0);
    work.computedTokens = 0;
    return true;
  }

  mustPack({ promptTokens, computedTokens, packedPages }: CountedWork): boolean {
    if (!this.rule) return false;
    return this.rule.packedAt(promptTokens, computedTokens) > packedPages * this.pageTokens;
  }

  stepLimit({ promptTokens, computedTokens }: CountedWork): number {
    if (!this.rule) return Number.POSITIVE_INFINITY;
    return this.rule.nextAt(promptTokens, computedTokens) - computedTokens;
  }

  pack(work: CountedWork): boolean {
    must(!work.inFlight && this.held.has(work), 'a slot is packed between its steps');
    const { rule, pageTokens } = this;
    if (this.squeezes) this.#finishSqueezed(work);
    if (!rule) return true;
    const due = rule.packedAt(work.promptTokens, work.computedTokens) / pageTokens;
    while (!work.packing) {
      if (work.convertedPages > work.packedPages) {
        if (work.convertedPages > due) return true;
        work.packedPages = work.convertedPages;
      } else if (due > work.packedPages) {
        if (!this.#convert(work, due)) return false;
      } else {
        const next = rule.nextAt(work.promptTokens, work.computedTokens);
        if (work.computedTokens >= work.promptTokens && next - work.computedTokens <= pageTokens) {
          this.#convert(work, rule.packedAt(work.promptTokens, next) / pageTokens);
        }
        return true;
      }
    }
    return true;
  }

  /** The conversion for `work` is done. */
  endConversion(work: CountedWork): void {
    this.converting.splice(this.converting.indexOf(work), 1);
    work.packing = false;
  }

  #convert(work: CountedWork, end: number): boolean {
    let count = Math.min(4, end - work.packedPages);
    while (count * packedSize > this.pages - this.used) if (--count === 0) return false;
    work.convertedPages = work.packedPages + count;
    work.packing = true;
    this.converting.push(work);
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
    must(!work.inFlight && !work.packing, 'a slot in flight is left alone');
    must(this.held.delete(work), 'a slot is released once');
    work.packedPages = 0;
    work.convertedPages = 0;
  }

  giveUpKept(): void {}

  canSwap(work: CountedWork): boolean {
    let inHost = 0;
    for (const pages of this.swapped.values()) inHost += pages;
    for (const leaving of this.leaving) inHost += this.held.get(leaving)!;
    return inHost + this.held.get(work)! <= this.hostPages;
  }

  swapOut(work: CountedWork): void {
    must(!work.inFlight && !work.packing && this.held.has(work), 'a slot is copied that is not in flight');
    work.convertedPages = work.packedPages;
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
    if (this.#mostPages(work, work.tokenCount + reserveTokens) > this.pages - this.used) return false;
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

  #sizeOf({ packedPages, convertedPages }: CountedWork, pages: number): number {
    return pages - packedPages * (1 - packedSize) + (convertedPages - packedPages) * packedSize;
  }

  #mostPages(work: CountedWork, tokens: number): number {
    const { rule, pageTokens } = this;
    if (!rule) return this.#sizeOf(work, this.#pagesFor(tokens)) + this.packRoom;
    if (work.packedPages > 0) return this.#sizeOf(work, this.#pagesFor(tokens)) + this.packRoom;
    const packed = rule.packedAt(work.promptTokens, tokens) / pageTokens;
    const exact = this.#pagesFor(Math.min(tokens, rule.exactTokens(work.promptTokens)));
    return Math.max(exact, this.#pagesFor(tokens) - packed * (1 - packedSize)) + this.packRoom;
  }

  #pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageTokens);
  }
}
