import type { KvPool } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import { commonPages } from './common-pages.js';
import type { PartitionRule } from './partition-rule.js';
import type { CacheNode } from './prefix-cache.js';

/** A sequence in partitions that has ended: the whole pages of what it held. */
interface KeptSequence {
  /** Of these tokens, as `Sequence.identity` has them. */
  readonly tokens: Int32Array;
  readonly droppedTokens: number;
  readonly packedTokens: number;
  readonly farTokens: number;
  readonly packedBytes: number;
  /** Published, in the order of its page table. */
  readonly blocks: Int32Array;
  /** Those of the prefix cache whose pages it holds. */
  readonly path: CacheNode[];
}

/** Where a request can go on. */
export interface Continuation {
  readonly kept: KeptSequence;
  /** So many of its first tokens are computed. */
  readonly tokens: number;
}

/**
 * The prefix cache of sequences in partitions. What such a sequence holds at a position follows from its tokens alone, so a
 * request that begins with the same ones goes on from there with the bits that it would have computed. It takes over what was
 * kept, and leaves more when it ends: so the turns of a conversation are read once. Pages stay where they are until memory is
 * wanted; then the sequence that ended first goes first.
 */
export class KeptSequences {
  /** In the order in which they ended. */
  readonly #kept = new Set<KeptSequence>();
  #bytes = 0;
  #evictedBytes = 0;

  constructor(
    private readonly kv: KvPool,
    private readonly rule: PartitionRule,
    /** The cached blocks lose a holder of their pages. */
    private readonly onLeft: (path: readonly CacheNode[]) => void,
  ) {}

  /** Memory of what is kept, without what the prefix cache has too, in exact blocks. */
  get blocks(): number {
    return Math.floor(this.#bytes / this.kv.blockBytes);
  }

  /** What was given up of it for lack of memory, since the start. */
  get evictedBlocks(): number {
    return Math.floor(this.#evictedBytes / this.kv.blockBytes);
  }

  /** Keeps what an ended sequence's slot holds, with its share of the prefix cache. The slot is closed next. */
  keep(sequence: Sequence): void {
    const { slot, computedTokens, droppedTokens, packedTokens, farTokens, packedBytes, path } = sequence;
    const { pageTokens } = this.rule;
    const pages = Math.floor(computedTokens / pageTokens);
    const kept: KeptSequence = {
      tokens: sequence.identity.view(0, pages * pageTokens),
      droppedTokens,
      packedTokens,
      farTokens,
      packedBytes,
      blocks: Int32Array.from({ length: pages - droppedTokens / pageTokens }, (_, index) =>
        this.kv.publish(slot, index),
      ),
      path,
    };
    sequence.path = [];
    this.#kept.add(kept);
    this.#bytes += this.#ownBytes(kept);
  }

  /** Where a sequence of these tokens can go on, the farthest; one token is left over, to sample what follows it. */
  match(tokens: Int32Array): Continuation | undefined {
    let best: Continuation | undefined;
    for (const kept of this.#kept) {
      const end = this.#commonEnd(kept, tokens);
      if (end >= (best?.tokens ?? 1)) best = { kept, tokens: end };
    }
    return best;
  }

  /** Where a sequence of these tokens could go on once `ended`, whose pages are still in use, is kept; 0: nowhere. */
  endBehind(ended: Sequence, tokens: Int32Array): number {
    const { computedTokens, droppedTokens, packedTokens, identity } = ended;
    const own = identity.view(0, computedTokens - (computedTokens % this.rule.pageTokens));
    return this.#commonEnd({ tokens: own, droppedTokens, packedTokens }, tokens);
  }

  /** What a sequence takes over when it goes on there, what the prefix cache has of it too: exact blocks, rounded up. */
  blocksOf({ kept }: Continuation): number {
    return Math.ceil(this.#ownBytes(kept) / this.kv.blockBytes) + kept.path.length;
  }

  /** The sequence, whose slot is empty, goes on there; nobody else does. */
  take(sequence: Sequence, { kept, tokens }: Continuation): void {
    const { droppedTokens, packedTokens, farTokens, packedBytes, blocks, path } = kept;
    const used = (tokens - droppedTokens) / this.rule.pageTokens;
    this.kv.attach(sequence.slot, blocks.subarray(0, used), droppedTokens);
    this.kv.unpublish(blocks);
    this.#forget(kept);
    const held = { droppedTokens, packedTokens, farTokens, packedBytes, path };
    Object.assign(sequence, { computedTokens: tokens, ...held });
  }

  /** Gives up the sequence that ended first, but for `spared`. False if there is none. */
  evict(spared?: KeptSequence): boolean {
    return this.#evictFirst((kept) => kept !== spared);
  }

  /** The same of those that have far pages. */
  evictFar(spared?: KeptSequence): boolean {
    return this.#evictFirst((kept) => kept !== spared && kept.farTokens > 0);
  }

  #evictFirst(may: (kept: KeptSequence) => boolean): boolean {
    for (const kept of this.#kept) {
      if (!may(kept)) continue;
      this.kv.unpublish(kept.blocks);
      this.onLeft(kept.path);
      this.#evictedBytes += this.#ownBytes(kept);
      this.#forget(kept);
      return true;
    }
    return false;
  }

  #forget(kept: KeptSequence): void {
    this.#kept.delete(kept);
    this.#bytes -= this.#ownBytes(kept);
  }

  #ownBytes({ blocks, packedTokens, packedBytes, path }: KeptSequence): number {
    const exact = blocks.length - packedTokens / this.rule.pageTokens - path.length;
    return exact * this.kv.blockBytes + packedBytes;
  }

  /** 0 where they part before what was kept last moved: mid is farther then than it would be there. */
  #commonEnd(
    {
      tokens: own,
      droppedTokens,
      packedTokens,
    }: Pick<KeptSequence, 'tokens' | 'droppedTokens' | 'packedTokens'>,
    tokens: Int32Array,
  ): number {
    const { pageTokens, sinkTokens } = this.rule;
    const end = commonPages(own, tokens.subarray(0, -1), pageTokens);
    return this.rule.midEndAt(end) >= sinkTokens + droppedTokens + packedTokens ? end : 0;
  }
}
