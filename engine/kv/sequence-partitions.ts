import { type KvPool, pageClasses } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { type PoolSizes, packingRoom } from './packing-room.js';
import { uniform } from './page-classes.js';
import type { PartitionRule } from './partition-rule.js';
import type { PrefixCache } from './prefix-cache.js';

/** Of mid pages. */
const packedForm = uniform('int4');

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
  const packed = blocksFor(Math.min(Math.max(0, tokens - rule.sinkTokens), rule.mostPacked), rule.pageTokens);
  // Less than a packed page of each chunk is left over, which adds up where mid is long.
  const perChunk = Math.floor((chunkPages * blockBytes) / classBlockBytes.int4);
  return tokens <= rule.recentTokens ? exact : exact + Math.ceil((packed * chunkPages) / perChunk);
}

/** Blocks to keep free, so that what moves can be packed while its exact pages are held. */
export function partitionRoom(kv: PoolSizes): number {
  return packingRoom(kv, [packedForm]);
}

/**
 * Holds sequences in the partitions of the rule. What moves into mid next is packed as soon as its pages are full, beside the
 * sequence's steps, so that it seldom waits when it is due.
 */
export class SequencePartitions implements Compression {
  readonly #options: SequencePartitionsOptions;
  readonly room: number;
  #running = 0;
  #convertedBlocks = 0;
  #droppedTokens = 0;

  constructor(options: SequencePartitionsOptions) {
    this.#options = options;
    this.room = partitionRoom(options.kv);
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
      if (sequence.convertedTokens > midEnd) {
        if (sequence.convertedTokens > due) return true;
        this.#move(sequence);
      } else if (due > midEnd) {
        if (!this.#convert(sequence, midEnd, due)) return false;
      } else {
        const full = Math.floor(computedTokens / rule.pageTokens) * rule.pageTokens;
        const next = Math.min(full, rule.midEndAt(rule.nextAt(computedTokens)));
        // If memory is out now, it may not be when it is due.
        if (next > midEnd) this.#convert(sequence, midEnd, next);
        return true;
      }
    }
    return true;
  }

  abandon(sequence: Sequence): void {
    if (sequence.convertedTokens <= this.#midEnd(sequence)) return;
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

  /** Begins to pack the tokens [begin, end). False if memory is out. */
  #convert(sequence: Sequence, begin: number, end: number): boolean {
    const { kv, layers, rule, share, vacate } = this.#options;
    const { slot, droppedTokens } = sequence;
    const first = (begin - droppedTokens) / rule.pageTokens;
    const count = (end - begin) / rule.pageTokens;
    const classes = new Uint8Array(count * layers).fill(pageClasses.indexOf(packedForm.low));
    // Those that are to be packed are in the cache then, whoever brought them.
    share(sequence);
    let conversion: Promise<void> | null;
    do {
      conversion = kv.convert(slot, first, first + count, classes);
    } while (!conversion && vacate(count));
    if (!conversion) return false;
    sequence.packing = true;
    sequence.convertedTokens = end;
    this.#running++;
    void conversion.then(() => {
      sequence.packing = false;
      this.#running--;
      this.#convertedBlocks += count;
      this.#options.onPacked(sequence);
    });
    return true;
  }

  /** What was packed joins mid, and what mid has too much is dropped. */
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
    const dropped = Math.max(0, sequence.packedTokens - rule.midTokens);
    if (dropped > 0) {
      const first = rule.sinkTokens / rule.pageTokens;
      kv.drop(slot, first, first + dropped / rule.pageTokens);
      sequence.droppedTokens += dropped;
      sequence.packedTokens -= dropped;
      this.#droppedTokens += dropped;
    }
    sequence.packedBytes = (sequence.packedTokens / rule.pageTokens) * kv.classBlockBytes.int4;
  }
}
