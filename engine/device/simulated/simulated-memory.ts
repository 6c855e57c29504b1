import { blocksFor } from '../../kv/admission.js';
import { pageTokens } from '../../kv/page-tokens.js';
import type { Memory } from '../../scheduler/memory.js';
import type { SimulatedSequence } from './sequence.js';
import { SimulatedCache } from './simulated-cache.js';

export interface SimulatedMemoryOptions<W> {
  /** For K and V of all sequences. */
  readonly kvBytes: number;
  readonly bytesPerToken: number;
  /** For sequences that must give way; 0: they are computed again. */
  readonly hostBytes: number;
  /** Sequences that may have a slot at once. */
  readonly slots: number;
  /** That one hash of a prompt stands for, and that are cached or not together: a multiple of a page's 32. */
  readonly blockTokens: number;
  /** Begins a copy, which ends with `copiedOut` or `copiedIn`. */
  readonly copy: (sequence: W, direction: 'out' | 'in', bytes: number) => void;
}

/** Pages and slots in numbers: what `engine/kv/` answers for a device, without the device. */
export class SimulatedMemory<W extends SimulatedSequence> implements Memory<W> {
  readonly pageTokens = pageTokens;
  readonly packs = false;
  readonly totalPages: number;
  readonly hostPages: number;
  readonly cache: SimulatedCache;
  readonly #options: SimulatedMemoryOptions<W>;
  readonly #pagesPerBlock: number;
  #ownedPages = 0;
  #usedHostPages = 0;
  #openSlots = 0;
  #mostUsedPages = 0;

  constructor(options: SimulatedMemoryOptions<W>) {
    this.#options = options;
    this.cache = new SimulatedCache(options.blockTokens);
    this.#pagesPerBlock = options.blockTokens / pageTokens;
    const pageBytes = options.bytesPerToken * pageTokens;
    this.totalPages = Math.floor(options.kvBytes / pageBytes);
    this.hostPages = Math.floor(options.hostBytes / pageBytes);
  }

  openSlots(): number {
    return this.#openSlots;
  }

  /** Pages that hold something, cached or not. */
  get usedPages(): number {
    return this.#ownedPages + this.cache.blocks * this.#pagesPerBlock;
  }

  get mostUsedPages(): number {
    return this.#mostUsedPages;
  }

  get usedHostPages(): number {
    return this.#usedHostPages;
  }

  /** Whether a sequence of so many tokens could run at all. */
  couldHold(tokens: number): boolean {
    return blocksFor(tokens, pageTokens) <= this.totalPages;
  }

  kvBytesPerToken(): number {
    return this.#options.bytesPerToken;
  }

  usage(): number {
    return (this.usedPages - this.cache.idleBlocks * this.#pagesPerBlock) / this.totalPages;
  }

  cachedTokens(work: W): number {
    if (work.arrivedTokens > 0) return work.arrivedTokens;
    return this.cache.matching(work.blockHashes, work.promptTokens) * this.cache.blockTokens;
  }

  /** Whoever ends in a step leaves what it held at once. */
  mustAwait(): boolean {
    return false;
  }

  admit(work: W, reserveTokens: number): boolean {
    if (this.#openSlots === this.#options.slots) return false;
    if (work.arrivedTokens > 0) return this.#admitArrived(work, reserveTokens);
    const shared = this.cache.matching(work.blockHashes, work.promptTokens);
    const idle = this.cache.idleAmong(work.blockHashes, shared);
    const wanted = blocksFor(work.tokenCount + reserveTokens, pageTokens) - shared * this.#pagesPerBlock;
    const evictable = (this.cache.idleBlocks - idle) * this.#pagesPerBlock;
    if (wanted > this.totalPages - this.usedPages + evictable) return false;
    this.#openSlots++;
    work.prefix = this.cache.use(work.blockHashes, shared);
    work.pages = 0;
    work.computedTokens = shared * this.cache.blockTokens;
    this.cache.hitTokens += shared * this.cache.blockTokens;
    this.cache.queriedTokens += work.promptTokens;
    return true;
  }

  reserve(work: W, tokens: number): boolean {
    const wanted = blocksFor(tokens, pageTokens) - work.prefix.length * this.#pagesPerBlock - work.pages;
    if (wanted <= 0) return true;
    if (!this.#makeRoom(wanted)) return false;
    work.pages += wanted;
    this.#ownedPages += wanted;
    if (this.usedPages > this.#mostUsedPages) this.#mostUsedPages = this.usedPages;
    return true;
  }

  contextOf(work: W): number {
    return work.computedTokens;
  }

  get hasSlot(): boolean {
    return this.#openSlots < this.#options.slots;
  }

  /** Here all tokens have one size from the first. */
  squeezable(): undefined {
    return undefined;
  }

  squeeze(): boolean {
    return false;
  }

  makeRoomToSqueeze(): boolean {
    return true;
  }

  mustPack(): boolean {
    return false;
  }

  stepLimit(): number {
    return Number.POSITIVE_INFINITY;
  }

  pack(): boolean {
    return true;
  }

  fork(): boolean {
    return false;
  }

  release(work: W): void {
    this.#freePages(work);
    this.#openSlots--;
  }

  /** Shares the whole blocks of a prompt that has been read; pages of blocks that are cached already are given back. */
  publish(work: W): void {
    const count = Math.min(work.blockHashes.length, Math.floor(work.promptTokens / this.cache.blockTokens));
    const before = work.prefix.length;
    if (count <= before) return;
    this.cache.extend(work.prefix, work.blockHashes, count);
    const given = (count - before) * this.#pagesPerBlock;
    work.pages -= given;
    this.#ownedPages -= given;
  }

  /** Nobody is packed here, so nothing lies in anybody's way. */
  giveUpKept(): void {}

  giveUpFar(): boolean {
    return false;
  }

  canSwap(work: W): boolean {
    // Of one that has computed nothing there is nothing to copy.
    const pages = blocksFor(work.computedTokens, pageTokens);
    return pages > 0 && this.#usedHostPages + pages <= this.hostPages;
  }

  swapOut(work: W): void {
    const pages = blocksFor(work.computedTokens, pageTokens);
    this.#usedHostPages += pages;
    this.#options.copy(work, 'out', pages * pageTokens * this.#options.bytesPerToken);
  }

  /** The copy to the host is done. Call before `Scheduler.swappedOut`. */
  copiedOut(work: W): void {
    this.#freePages(work);
    this.#openSlots--;
  }

  swapIn(work: W, reserveTokens: number): boolean {
    const wanted = blocksFor(work.tokenCount + reserveTokens, pageTokens);
    const evictable = this.cache.idleBlocks * this.#pagesPerBlock;
    if (this.#openSlots === this.#options.slots) return false;
    if (wanted > this.totalPages - this.usedPages + evictable) return false;
    this.#openSlots++;
    this.reserve(work, work.computedTokens);
    const pages = blocksFor(work.computedTokens, pageTokens);
    this.#options.copy(work, 'in', pages * pageTokens * this.#options.bytesPerToken);
    return true;
  }

  /** The copy back is done. Call before `Scheduler.swappedIn`. */
  copiedIn(work: W): void {
    this.dropSwapped(work);
  }

  dropSwapped(work: W): void {
    this.#usedHostPages -= blocksFor(work.computedTokens, pageTokens);
  }

  /** The KV came from another device, and takes its place at once. */
  #admitArrived(work: W, reserveTokens: number): boolean {
    const wanted = blocksFor(work.tokenCount + reserveTokens, pageTokens);
    if (wanted > this.totalPages - this.usedPages + this.cache.idleBlocks * this.#pagesPerBlock) return false;
    this.#openSlots++;
    this.reserve(work, work.arrivedTokens);
    work.computedTokens = work.arrivedTokens;
    work.arrivedTokens = 0;
    return true;
  }

  #freePages(work: W): void {
    this.cache.release(work.prefix);
    work.prefix = [];
    this.#ownedPages -= work.pages;
    work.pages = 0;
  }

  #makeRoom(pages: number): boolean {
    const missing = pages - (this.totalPages - this.usedPages);
    if (missing <= 0) return true;
    const blocks = Math.ceil(missing / this.#pagesPerBlock);
    if (blocks > this.cache.idleBlocks) return false;
    return this.cache.evict(blocks) === blocks;
  }
}
