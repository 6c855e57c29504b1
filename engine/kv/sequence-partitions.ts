import { type HeldClass, type KvPool, pageClasses } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { type PoolSizes, packingRoom } from './packing-room.js';
import { type PackedForm, uniform } from './page-classes.js';
import type { PartitionRule } from './partition-rule.js';
import type { PrefixCache } from './prefix-cache.js';

/** Of mid pages. */
const packedForm = uniform('int4');
const farForm = uniform('far');

export interface SequencePartitionsOptions {
  readonly kv: KvPool;
  readonly layers: number;
  readonly rule: PartitionRule;
  /** Of what sequences hold while all of it is exact; absent: they share nothing. */
  readonly cache: PrefixCache | undefined;
  /** Lets the cache have the sequence's full blocks, while they are exact. */
  readonly share: (sequence: Sequence) => void;
  /** Has so many more blocks be free, if they can be. False if none came free. */
  readonly vacate: (blocks: number) => boolean;
  /** Has host memory be free for far pages of those that nobody runs on. False if none came free. */
  readonly vacateFar: () => boolean;
  /** A conversion has ended, and the sequence may move on, be closed or be swapped. */
  readonly onPacked: (sequence: Sequence) => void;
}

/** What the sizes of blocks say about a pool. */
export type BlockSizes = Pick<KvPool, 'blockBytes' | 'classBlockBytes' | 'chunkPages'>;

/** The most blocks that one sequence takes when it has `tokens` tokens: no more from some length on. */
export function mostBlocks(
  { blockBytes, classBlockBytes, chunkPages }: BlockSizes,
  rule: PartitionRule,
  tokens: number,
): number {
  const exact = blocksFor(Math.min(tokens, rule.mostExact), rule.pageTokens);
  if (tokens <= rule.recentTokens) return exact;
  const packed = blocksFor(Math.min(Math.max(0, tokens - rule.sinkTokens), rule.mostPacked), rule.pageTokens);
  const old = Math.max(0, tokens - rule.sinkTokens - rule.midTokens);
  const far = blocksFor(Math.min(old, rule.farTokens), rule.pageTokens);
  // Less than a page of each chunk is left over, which adds up where there are many.
  const perChunk = (name: HeldClass) => Math.floor((chunkPages * blockBytes) / classBlockBytes[name]);
  const taken = (blocks: number, name: HeldClass) => Math.ceil((blocks * chunkPages) / perChunk(name));
  return exact + taken(packed, 'int4') + taken(far, 'far');
}

/** Blocks to keep free, so that what moves can be packed while its exact pages are held, and become far. */
export function partitionRoom(kv: PoolSizes, { farTokens }: PartitionRule): number {
  return packingRoom(kv, [packedForm]) + (farTokens > 0 ? kv.chunkBlocks : 0);
}

/**
 * Holds sequences in the partitions of the rule. What mid has too much becomes far, and what moves into mid next is packed,
 * as soon as can be, beside the sequence's steps, so that it seldom waits when more is to move.
 */
export class SequencePartitions implements Compression {
  readonly #options: SequencePartitionsOptions;
  readonly room: number;
  #running = 0;
  #convertedBlocks = 0;
  #droppedTokens = 0;

  constructor(options: SequencePartitionsOptions) {
    this.#options = options;
    this.room = partitionRoom(options.kv, options.rule);
  }

  get running(): number {
    return this.#running;
  }

  get convertedBlocks(): number {
    return this.#convertedBlocks;
  }

  /** Tokens that were given up, since the start. */
  get droppedTokens(): number {
    return this.#droppedTokens;
  }

  /** Blocks that will be far, of the tokens that the sequence has now, beside those that are, and that host memory has no place for. */
  missingFarBlocks({ tokenCount }: Sequence, farTokens: number): number {
    const { kv, rule } = this.#options;
    return (rule.farTokensAt(tokenCount) - farTokens) / rule.pageTokens - kv.freeFarBlocks();
  }

  mustPack(sequence: Sequence): boolean {
    return this.#options.rule.midEndAt(sequence.computedTokens) > this.#midEnd(sequence);
  }

  stepLimit({ computedTokens }: Sequence): number {
    return this.#options.rule.nextAt(computedTokens) - computedTokens;
  }

  mostBlocks(_: Sequence, tokens: number): number {
    return mostBlocks(this.#options.kv, this.#options.rule, tokens);
  }

  pack(sequence: Sequence): boolean {
    const { rule } = this.#options;
    const { computedTokens } = sequence;
    const due = rule.midEndAt(computedTokens);
    while (!sequence.packing) {
      const midEnd = this.#midEnd(sequence);
      const farEnd = this.#farEnd(sequence);
      if (sequence.convertedTokens > midEnd) {
        if (sequence.convertedTokens > due) return true;
        this.#move(sequence);
      } else if (sequence.convertedTokens > farEnd) {
        this.#moveFar(sequence);
      } else if (midEnd - farEnd > rule.midTokens) {
        // It must be far before more moves; whether it is already, no answer shows.
        if (!this.#convert(sequence, farEnd, midEnd - rule.midTokens, farForm)) return due === midEnd;
      } else if (due > midEnd) {
        if (!this.#convert(sequence, midEnd, due, packedForm)) return false;
      } else {
        const full = Math.floor(computedTokens / rule.pageTokens) * rule.pageTokens;
        const next = Math.min(full, rule.midEndAt(rule.nextAt(computedTokens)));
        // If memory is out now, it may not be when it is due.
        if (next > midEnd) this.#convert(sequence, midEnd, next, packedForm);
        return true;
      }
    }
    return true;
  }

  abandon(sequence: Sequence): void {
    if (sequence.convertedTokens === 0) return;
    this.#options.kv.dropConversion(sequence.slot);
    sequence.convertedTokens = 0;
  }

  release({ path, packedTokens }: Sequence): void {
    const { cache } = this.#options;
    if (packedTokens > 0) cache?.leave(path);
    else cache?.release(path);
  }

  /** Where the sequence's mid ends, as a position in it. */
  #midEnd({ droppedTokens, packedTokens }: Sequence): number {
    return this.#options.rule.sinkTokens + droppedTokens + packedTokens;
  }

  /** Where what of it is far ends, which is where its mid begins. */
  #farEnd({ droppedTokens, farTokens }: Sequence): number {
    return this.#options.rule.sinkTokens + droppedTokens + farTokens;
  }

  /** Begins to bring the tokens [begin, end) into a form. False if memory is out. */
  #convert(sequence: Sequence, begin: number, end: number, form: PackedForm): boolean {
    const { kv, layers, rule, share } = this.#options;
    const { slot, droppedTokens } = sequence;
    const first = (begin - droppedTokens) / rule.pageTokens;
    const count = (end - begin) / rule.pageTokens;
    const classes = new Uint8Array(count * layers).fill(pageClasses.indexOf(form.low));
    // Those that are to be packed are in the cache then, whoever brought them.
    if (form === packedForm) share(sequence);
    let conversion: Promise<void> | null;
    do {
      conversion = kv.convert(slot, first, first + count, classes);
    } while (!conversion && this.#vacate(count, form));
    if (!conversion) return false;
    sequence.packing = true;
    sequence.convertedTokens = end;
    this.#running++;
    void conversion.then(() => {
      sequence.packing = false;
      this.#running--;
      if (form === packedForm) this.#convertedBlocks += count;
      this.#options.onPacked(sequence);
    });
    return true;
  }

  #vacate(blocks: number, form: PackedForm): boolean {
    const { kv, vacate, vacateFar } = this.#options;
    return form === farForm && kv.freeFarBlocks() < blocks ? vacateFar() : vacate(blocks);
  }

  /** What was made far leaves mid. */
  #moveFar(sequence: Sequence): void {
    const moved = sequence.convertedTokens - this.#farEnd(sequence);
    this.#options.kv.finishConversion(sequence.slot);
    sequence.convertedTokens = 0;
    sequence.farTokens += moved;
    this.#countBytes(sequence);
  }

  /** What was packed joins mid, and what mid and far have too much is dropped. */
  #move(sequence: Sequence): void {
    const { kv, rule, cache, share } = this.#options;
    const { slot, path } = sequence;
    const moved = sequence.convertedTokens - this.#midEnd(sequence);
    kv.finishConversion(slot);
    sequence.convertedTokens = 0;
    if (sequence.packedTokens === 0) {
      // The last blocks that were computed behind exact ones.
      share(sequence);
      cache?.unpin(path);
    }
    cache?.leave(path.splice(rule.sinkTokens / rule.pageTokens, moved / rule.pageTokens));
    sequence.packedTokens += moved;
    const dropped = Math.max(0, sequence.packedTokens - rule.midTokens - rule.farTokens);
    if (dropped > 0) {
      const first = rule.sinkTokens / rule.pageTokens;
      kv.drop(slot, first, first + dropped / rule.pageTokens);
      sequence.droppedTokens += dropped;
      sequence.packedTokens -= dropped;
      sequence.farTokens = Math.max(0, sequence.farTokens - dropped);
      this.#droppedTokens += dropped;
    }
    this.#countBytes(sequence);
  }

  #countBytes(sequence: Sequence): void {
    const { kv, rule } = this.#options;
    const { packedTokens, farTokens } = sequence;
    const { int4, far } = kv.classBlockBytes;
    sequence.packedBytes = ((packedTokens - farTokens) * int4 + farTokens * far) / rule.pageTokens;
  }
}
