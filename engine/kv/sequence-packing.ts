import type { BornClass, KvPool } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import { blocksFor } from './admission.js';
import type { Compression } from './compression.js';
import { PackingPlan } from './packing-plan.js';
import { batchBlocks, mostBytes, roomBeside } from './packing-room.js';
import type { PackingSchedule } from './packing-schedule.js';
import {
  bytesOfBlock,
  chooseClasses,
  classesOf,
  decidesByAttention,
  followedBy,
  keyOf,
} from './page-classes.js';
import { type LayerPages, PageCounts } from './page-counts.js';
import type { PartitionRule } from './partition-rule.js';
import type { PrefixCache } from './prefix-cache.js';

/**
 * A growing sequence has its next pages converted so many tokens before that is due: not more, because so long it holds both
 * forms of them; not less, because a conversion may have to wait for others, or until there is room, and then the sequence
 * would.
 */
const aheadTokens = 12;

export interface SequencePackingOptions {
  readonly kv: KvPool;
  readonly layers: number;
  readonly cache: PrefixCache;
  readonly schedule: PackingSchedule;
  /** Of sequences that are to drop tokens; absent: none ever is. */
  readonly partitions?: PartitionRule | undefined;
  /** Lets the cache have the sequence's full blocks, while they are exact. */
  readonly share: (sequence: Sequence) => void;
  /** Has so many more blocks be free, if they can be. False if none came free. */
  readonly vacate: (blocks: number) => boolean;
  /** A conversion has ended, and the sequence may be packed further, closed or moved. */
  readonly onPacked: (sequence: Sequence) => void;
}

/**
 * Packs sequences as the schedule says. A conversion runs beside the sequence's steps, which go on with the old pages. What is
 * due by its position it must have before its next step; while it decodes, that is made ahead of time, so that it seldom
 * waits.
 */
export class SequencePacking implements Compression {
  readonly #options: SequencePackingOptions;
  /** Of an exact block, what a packed one takes at most. */
  readonly #blockRatio: number;
  readonly room: number;
  #running = 0;
  #packedBlocks = 0;
  #droppedTokens = 0;
  /** Of the form whose pages are chosen by attention. */
  readonly #pages: PageCounts | undefined;

  constructor(options: SequencePackingOptions) {
    const { kv, schedule, layers } = options;
    this.#options = options;
    this.#blockRatio = mostBytes(kv, schedule.forms) / kv.blockBytes;
    this.room = roomBeside(kv, schedule.forms);
    const chosen = schedule.forms.find(decidesByAttention);
    this.#pages = chosen && new PageCounts(layers, chosen);
  }

  /** Conversions that run. */
  get running(): number {
    return this.#running;
  }

  /** Blocks that were converted, since the start. */
  get convertedBlocks(): number {
    return this.#packedBlocks;
  }

  get droppedTokens(): number {
    return this.#droppedTokens;
  }

  /** Pages that were packed, by layer; undefined where all of them are packed alike. */
  get pages(): readonly LayerPages[] | undefined {
    return this.#pages?.byLayer;
  }

  mustPack(sequence: Sequence): boolean {
    return this.#options.schedule.isStrict && this.#dueAt(sequence) > sequence.rungTokens;
  }

  /** Where what is due when the token at `position` is computed ends, in whole pages. */
  #dueAt(sequence: Sequence, position = sequence.computedTokens): number {
    const { schedule, kv } = this.#options;
    const rounded = schedule.roundedAt(sequence, position);
    if (rounded <= sequence.packedTokens) return schedule.packedAt(sequence, position);
    return blocksFor(rounded, kv.pageTokens) * kv.pageTokens;
  }

  /** Tokens that a step may bring before more must be packed. */
  stepLimit(sequence: Sequence): number {
    const { computedTokens } = sequence;
    return this.#options.schedule.nextAt(sequence, computedTokens) - computedTokens;
  }

  /** The class of the pages that the sequence's next tokens are written to. */
  bornClass({ promptTokens, computedTokens }: Sequence): BornClass {
    const { schedule, kv } = this.#options;
    return (computedTokens >= promptTokens && schedule.recent) || kv.precision;
  }

  /** Bytes of the blocks behind those that were converted, when `tokens` tokens are held. */
  unpackedBytes({ promptTokens, packedTokens }: Sequence, tokens: number): number {
    const { schedule, kv } = this.#options;
    const first = blocksFor(packedTokens, kv.pageTokens);
    const behind = blocksFor(tokens, kv.pageTokens) - first;
    // The prompt's were written as it was read.
    const ofPrompt = Math.max(0, blocksFor(Math.min(tokens, promptTokens), kv.pageTokens) - first);
    const bytes = kv.classBlockBytes;
    return ofPrompt * bytes[kv.precision] + (behind - ofPrompt) * bytes[schedule.recent ?? kv.precision];
  }

  /** The most blocks that a sequence takes from now on until it has `tokens` tokens: its prompt is exact at first. */
  mostBlocks(sequence: Sequence, tokens: number): number {
    const { schedule, kv } = this.#options;
    const { packedTokens, packedBytes, droppedTokens } = sequence;
    if (packedTokens > 0) {
      const bytes = packedBytes + this.unpackedBytes(sequence, tokens - droppedTokens);
      return Math.ceil(bytes / kv.blockBytes);
    }
    const exact = blocksFor(Math.min(tokens, schedule.exactTokens(sequence)), kv.pageTokens);
    const packed = schedule.packedAt(sequence, tokens) / kv.pageTokens;
    const recent = blocksFor(tokens, kv.pageTokens) - packed;
    const recentRatio = kv.classBlockBytes[schedule.recent ?? kv.precision] / kv.blockBytes;
    return Math.max(exact, Math.ceil(packed * this.#blockRatio + recent * recentRatio));
  }

  /**
   * Brings the sequence's packing on as far as can be now, between its steps. False if it must be packed before its next
   * step, and memory is out.
   */
  pack(sequence: Sequence): boolean {
    const { schedule, share } = this.#options;
    const { promptTokens, computedTokens } = sequence;
    const next = schedule.nextAt(sequence, computedTokens);
    const isSoon = computedTokens >= promptTokens && next - computedTokens <= aheadTokens;
    if ((this.#dueAt(sequence) > 0 || isSoon) && sequence.convertedTokens === 0) share(sequence);
    while (!sequence.packing) {
      const due = this.#dueAt(sequence);
      if (sequence.convertedTokens > sequence.rungTokens) {
        if (sequence.convertedTokens > due) return true;
        this.#finish(sequence);
      } else if (sequence.dropDueTokens > 0) {
        this.#drop(sequence);
      } else if (due > sequence.rungTokens) {
        this.#decide(sequence, computedTokens);
        if (this.#adopt(sequence)) continue;
        if (this.#isMadeByAnother(sequence)) return true;
        if (!this.#convert(sequence, due)) return false;
      } else {
        // If memory is out now, it may not be when it is due.
        if (isSoon) {
          this.#decide(sequence, next);
          if (!this.#isMadeByAnother(sequence)) this.#convert(sequence, schedule.packedAt(sequence, next));
        }
        return true;
      }
    }
    return true;
  }

  /** Before the slot is closed or swapped: what is made but not due yet is given up. */
  abandon(sequence: Sequence): void {
    if (sequence.convertedTokens === sequence.rungTokens) return;
    this.#options.kv.dropConversion(sequence.slot);
    sequence.convertedTokens = sequence.rungTokens;
  }

  /** The sequence has left its slot; it does not share blocks with others any more. */
  release(sequence: Sequence): void {
    const { cache } = this.#options;
    if (sequence.packedTokens === 0) cache.release(sequence.path);
    else cache.releasePacked(sequence.path, sequence.packedClasses);
  }

  /** Into which classes the sequence's pages go that are packed at `position`, unless that is known. */
  #decide(sequence: Sequence, position: number): void {
    const { schedule, kv, layers } = this.#options;
    const packedEnd = schedule.packedAt(sequence, position) / kv.pageTokens;
    const end = this.#dueAt(sequence, position) / kv.pageTokens;
    const plan = sequence.packingPlan;
    if (plan?.end === end && plan.packedEnd === packedEnd) return;
    const begin = sequence.rungTokens / kv.pageTokens;
    // Where pages are packed alike, nobody has looked.
    const scores =
      schedule.scoresAt(sequence, position) ??
      Array.from({ length: layers }, () => new Float64Array(packedEnd));
    const packed = chooseClasses(schedule.formOf(sequence), scores, begin, packedEnd);
    const recent = schedule.recent ?? kv.precision;
    const classes = followedBy(packed, recent, (end - packedEnd) * layers);
    sequence.packingPlan = new PackingPlan(begin, packedEnd, end, classes, layers);
  }

  /** Of a block that was decided on. */
  #keyOf({ packingPlan, packedClasses }: Sequence, block: number): string {
    return packingPlan!.keyOf(block, packedClasses[block]);
  }

  /** Takes over what other sequences have made of the same blocks. Whether that was all that is due. */
  #adopt(sequence: Sequence): boolean {
    const { pageTokens } = this.#options.kv;
    while (sequence.rungTokens < this.#dueAt(sequence)) {
      const block = sequence.rungTokens / pageTokens;
      if (!sequence.path[block]?.packed.has(this.#keyOf(sequence, block))) return false;
      this.#becomePacked(sequence, sequence.rungTokens + pageTokens);
    }
    return true;
  }

  /** The next block to pack is there, or will be: the end of the other's conversion brings this sequence here again. */
  #isMadeByAnother(sequence: Sequence): boolean {
    return this.#isMade(sequence, sequence.rungTokens / this.#options.kv.pageTokens);
  }

  #isMade(sequence: Sequence, block: number): boolean {
    const node = sequence.path[block];
    if (!node) return false;
    const key = this.#keyOf(sequence, block);
    return node.packed.has(key) || node.packing.has(key);
  }

  /** Begins to convert up to `end`, or as much of it as there is memory for. False if not one block can be. */
  #convert(sequence: Sequence, end: number): boolean {
    const { kv, vacate } = this.#options;
    const { slot, rungTokens, path } = sequence;
    const plan = sequence.packingPlan!;
    const { pageTokens } = kv;
    const first = rungTokens / pageTokens;
    let count = 1;
    while (
      count < batchBlocks &&
      (first + count) * pageTokens < end &&
      !this.#isMade(sequence, first + count)
    ) {
      count++;
    }
    const begin = () => kv.convert(slot, first, first + count, plan.classesOf(first, count));
    let conversion = begin();
    while (!conversion) {
      if (vacate(Math.ceil(count * this.#blockRatio))) {
        // Once more, with as many.
      } else if (count > 1) {
        count = Math.ceil(count / 2);
      } else {
        return false;
      }
      conversion = begin();
    }
    const made = path
      .slice(first, first + count)
      .map((node, index) => ({ node, key: this.#keyOf(sequence, first + index) }));
    for (const { node, key } of made) node.packing.add(key);
    sequence.packing = true;
    sequence.convertedTokens = (first + count) * pageTokens;
    this.#running++;
    const classes = plan.classesOf(first, count);
    void conversion.then(() => {
      for (const { node, key } of made) node.packing.delete(key);
      sequence.packing = false;
      this.#running--;
      this.#packedBlocks += count;
      this.#pages?.add(classes);
      this.#options.onPacked(sequence);
    });
    return true;
  }

  /** Gives up the oldest packed tokens behind the sink. That is done at once, and told as the end of a conversion is. */
  #drop(sequence: Sequence): void {
    const { kv, cache, layers, partitions, onPacked } = this.#options;
    const { slot, path, packedClasses, dropDueTokens } = sequence;
    // What the sequence holds is not the beginning of a text any more, so it leaves the cache with the pages it has.
    cache.releasePacked(path, packedClasses);
    sequence.path = [];
    const sink = partitions!.sinkTokens / kv.pageTokens;
    const count = dropDueTokens / kv.pageTokens;
    kv.drop(slot, sink, sink + count);
    for (const key of packedClasses.splice(sink, count)) {
      sequence.packedBytes -= bytesOfBlock(kv, classesOf(key, layers));
    }
    for (const name of ['packedTokens', 'rungTokens', 'convertedTokens', 'squeezedTokens'] as const) {
      sequence[name] -= dropDueTokens;
    }
    sequence.droppedTokens += dropDueTokens;
    this.#droppedTokens += dropDueTokens;
    sequence.dropDueTokens = 0;
    sequence.packingPlan = undefined;
    sequence.packing = true;
    this.#running++;
    queueMicrotask(() => {
      sequence.packing = false;
      this.#running--;
      onPacked(sequence);
    });
  }

  #finish(sequence: Sequence): void {
    this.#options.kv.finishConversion(sequence.slot);
    this.#becomePacked(sequence, sequence.convertedTokens);
  }

  /** The slot's blocks up to `end` are packed, or are to be taken over from others. */
  #becomePacked(sequence: Sequence, end: number): void {
    const { cache, kv, layers } = this.#options;
    const { path, slot, packedClasses, computedTokens, droppedTokens } = sequence;
    const plan = sequence.packingPlan!;
    if (sequence.packedTokens === 0) cache.unpin(path);
    for (let block = sequence.rungTokens / kv.pageTokens; block < end / kv.pageTokens; block++) {
      const before = packedClasses[block];
      const classes = plan.classesOf(block);
      const key = keyOf(classes, before);
      const node = path[block];
      if (node) cache.becamePacked(node, key, slot, block, before);
      packedClasses[block] = key;
      sequence.packedBytes += bytesOfBlock(kv, classes);
      if (before !== undefined) sequence.packedBytes -= bytesOfBlock(kv, classesOf(before, layers));
    }
    sequence.packedTokens = Math.max(sequence.packedTokens, Math.min(end, computedTokens - droppedTokens));
    // What is of the recent class now is packed later.
    const isDone = end === plan.end * kv.pageTokens;
    sequence.rungTokens = isDone ? plan.packedEnd * kv.pageTokens : end;
    sequence.convertedTokens = sequence.rungTokens;
  }
}
