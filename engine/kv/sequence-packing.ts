import type { KvPool } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { PackingRule } from './packing-rule.js';
import type { PrefixCache } from './prefix-cache.js';

/** Blocks of one sequence that are converted at once; for a while there are both forms of them. */
const batchBlocks = 16;

export interface SequencePackingOptions {
  readonly kv: KvPool;
  readonly cache: PrefixCache;
  readonly rule: PackingRule;
  /** Lets the cache have the sequence's full blocks, while they are exact. */
  readonly share: (sequence: Sequence) => void;
  /** A conversion has ended, and the sequence may be packed further, closed or moved. */
  readonly onPacked: (sequence: Sequence) => void;
}

/** Blocks to keep free, so that sequences can be packed while they hold their exact pages. */
export function packingRoom(kv: KvPool, rule: PackingRule): number {
  // A packed page needs a chunk of its class, and pages of another class may lie at both ends of what is free.
  const least = 2 * kv.chunkBlocks;
  const wanted = least + Math.ceil((batchBlocks * kv.classBlockBytes[rule.precision]) / kv.blockBytes);
  return Math.max(least, Math.min(wanted, Math.floor(kv.totalBlocks / 8)));
}

/**
 * Packs sequences as the rule says. A conversion runs beside the sequence's steps, which go on with the old pages. What is
 * due by its position it must have before its next step; while it decodes, that is made a page ahead of time, so that it
 * seldom waits.
 */
export class SequencePacking {
  readonly #options: SequencePackingOptions;
  readonly #blockRatio: number;
  readonly room: number;
  #running = 0;
  #packedBlocks = 0;

  constructor(options: SequencePackingOptions) {
    const { kv, rule } = options;
    this.#options = options;
    this.#blockRatio = kv.classBlockBytes[rule.precision] / kv.blockBytes;
    this.room = packingRoom(kv, rule);
  }

  /** Conversions that run. */
  get running(): number {
    return this.#running;
  }

  /** Blocks that were converted, since the start. */
  get convertedBlocks(): number {
    return this.#packedBlocks;
  }

  mustPack({ promptTokens, computedTokens, packedTokens }: Sequence): boolean {
    return this.#options.rule.packedAt(promptTokens, computedTokens) > packedTokens;
  }

  /** Tokens that a step may bring before more must be packed. */
  stepLimit({ promptTokens, computedTokens }: Sequence): number {
    return this.#options.rule.nextAt(promptTokens, computedTokens) - computedTokens;
  }

  /** Blocks, rounded up, that `tokens` tokens take of which the first `packedTokens` are packed. */
  blocksOf(tokens: number, packedTokens: number): number {
    const { pageTokens } = this.#options.kv;
    const packed = Math.ceil((packedTokens / pageTokens) * this.#blockRatio);
    return packed + blocksFor(tokens - packedTokens, pageTokens);
  }

  /** The most blocks that a sequence takes from now on until it has `tokens` tokens: its prompt is exact at first. */
  mostBlocks({ promptTokens, packedTokens }: Sequence, tokens: number): number {
    const { rule } = this.#options;
    if (packedTokens > 0) return this.blocksOf(tokens, packedTokens);
    const exact = Math.min(tokens, rule.exactTokens(promptTokens));
    return Math.max(this.blocksOf(exact, 0), this.blocksOf(tokens, rule.packedAt(promptTokens, tokens)));
  }

  /**
   * Brings the sequence's packing on as far as can be now, between its steps. False if it must be packed before its next
   * step, and memory is out.
   */
  pack(sequence: Sequence): boolean {
    const { rule, kv, share } = this.#options;
    const { promptTokens, computedTokens } = sequence;
    const due = rule.packedAt(promptTokens, computedTokens);
    const next = rule.nextAt(promptTokens, computedTokens);
    const isSoon = computedTokens >= promptTokens && next - computedTokens <= kv.pageTokens;
    if ((due > 0 || isSoon) && sequence.convertedTokens === 0) share(sequence);
    while (!sequence.packing) {
      if (sequence.convertedTokens > sequence.packedTokens) {
        if (sequence.convertedTokens > due) return true;
        this.#finish(sequence);
      } else if (due > sequence.packedTokens) {
        this.#adopt(sequence, due);
        if (due === sequence.packedTokens) continue;
        if (this.#isMadeByAnother(sequence)) return true;
        if (!this.#convert(sequence, due)) return false;
      } else {
        // If memory is out now, it may not be when it is due.
        if (isSoon && !this.#isMadeByAnother(sequence)) {
          this.#convert(sequence, rule.packedAt(promptTokens, next));
        }
        return true;
      }
    }
    return true;
  }

  /** Before the slot is closed or swapped: what is made but not due yet is given up. */
  abandon(sequence: Sequence): void {
    if (sequence.convertedTokens === sequence.packedTokens) return;
    this.#options.kv.dropConversion(sequence.slot);
    sequence.convertedTokens = sequence.packedTokens;
  }

  /** The sequence has left its slot; it does not share blocks with others any more. */
  release(sequence: Sequence): void {
    const { cache, kv } = this.#options;
    if (sequence.packedTokens === 0) cache.release(sequence.path);
    else cache.releasePacked(sequence.path, sequence.packedTokens / kv.pageTokens);
  }

  /** Takes over what other sequences have made of the same blocks. */
  #adopt(sequence: Sequence, due: number): void {
    const { pageTokens } = this.#options.kv;
    while (sequence.packedTokens < due && sequence.path[sequence.packedTokens / pageTokens]?.packed) {
      this.#becomePacked(sequence, sequence.packedTokens + pageTokens);
    }
  }

  /** The next block to pack is there, or will be: the end of the other's conversion brings this sequence here again. */
  #isMadeByAnother({ path, packedTokens }: Sequence): boolean {
    const node = path[packedTokens / this.#options.kv.pageTokens];
    return node !== undefined && (node.packed !== null || node.isPacking);
  }

  /** Begins to convert up to `end`, or as much of it as there is memory for. False if not one block can be. */
  #convert(sequence: Sequence, end: number): boolean {
    const { kv, cache, rule } = this.#options;
    const { slot, packedTokens, path } = sequence;
    const { pageTokens } = kv;
    const first = packedTokens / pageTokens;
    let count = 1;
    while (count < batchBlocks && (first + count) * pageTokens < end) {
      const node = path[first + count];
      if (node?.packed || node?.isPacking) break;
      count++;
    }
    let conversion = kv.convert(slot, first, first + count, rule.precision);
    while (!conversion) {
      if (cache.evict(Math.ceil(count * this.#blockRatio)) > 0) {
        // Once more, with as many.
      } else if (count > 1) {
        count = Math.ceil(count / 2);
      } else {
        return false;
      }
      conversion = kv.convert(slot, first, first + count, rule.precision);
    }
    const nodes = path.slice(first, first + count);
    for (const node of nodes) node.isPacking = true;
    sequence.packing = true;
    sequence.convertedTokens = (first + count) * pageTokens;
    this.#running++;
    void conversion.then(() => {
      for (const node of nodes) node.isPacking = false;
      sequence.packing = false;
      this.#running--;
      this.#packedBlocks += count;
      this.#options.onPacked(sequence);
    });
    return true;
  }

  #finish(sequence: Sequence): void {
    this.#options.kv.finishConversion(sequence.slot);
    this.#becomePacked(sequence, sequence.convertedTokens);
  }

  /** The slot's blocks up to `end` are packed, or are to be taken over from others. */
  #becomePacked(sequence: Sequence, end: number): void {
    const { cache, kv } = this.#options;
    const { path, slot } = sequence;
    if (sequence.packedTokens === 0) cache.unpin(path);
    const last = Math.min(end / kv.pageTokens, path.length);
    for (let index = sequence.packedTokens / kv.pageTokens; index < last; index++) {
      cache.becamePacked(path[index]!, slot, index);
    }
    sequence.packedTokens = end;
    sequence.convertedTokens = end;
  }
}
