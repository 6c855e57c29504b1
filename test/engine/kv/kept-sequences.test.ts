import { describe, expect, it } from 'vitest';
import type { KvPool } from '../../../engine/device/device.js';
import { KeptSequences } from '../../../engine/kv/kept-sequences.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import type { CacheNode } from '../../../engine/kv/prefix-cache.js';
import type { Sequence } from '../../../engine/sequence.js';
import { droppedAt } from '../../support/dropped-tokens.js';

const rule = new PartitionRule({ sinkTokens: 32, recentTokens: 64, midTokens: 96, topPages: 1 }, 32);

/** What a pool was asked for. */
class NotedPool {
  readonly blockBytes = 1000;
  readonly published = new Set<number>();
  attached: { blocks: number[]; droppedTokens: number } | undefined;
  #next = 0;

  publish(): number {
    this.published.add(this.#next);
    return this.#next++;
  }

  unpublish(blocks: Int32Array): void {
    for (const block of blocks) this.published.delete(block);
  }

  attach(_: number, blocks: Int32Array, droppedTokens: number): void {
    this.attached = { blocks: [...blocks], droppedTokens };
  }
}

const textOf = (length: number, seed = 1) => Int32Array.from({ length }, (_, i) => (i * seed) % 97);

/** One that has computed all of its tokens, and moved on as the rule says. */
function sequenceOf(tokens: Int32Array, path: CacheNode[] = []): Sequence {
  const droppedTokens = droppedAt(rule, tokens.length);
  const packedTokens = rule.midEndAt(tokens.length) - rule.sinkTokens - droppedTokens;
  return {
    slot: 0,
    computedTokens: tokens.length,
    droppedTokens,
    packedTokens,
    packedBytes: packedTokens * 10,
    path,
    identity: { view: (begin: number, end: number) => tokens.subarray(begin, end) },
  } as unknown as Sequence;
}

function setUp() {
  const pool = new NotedPool();
  const left: CacheNode[] = [];
  const kept = new KeptSequences(pool as unknown as KvPool, rule, (path) => left.push(...path));
  return { pool, left, kept };
}

describe('kept sequences', () => {
  it('are gone on from by what begins with their tokens, once', () => {
    const { pool, kept } = setUp();
    const tokens = textOf(600);
    kept.keep(sequenceOf(tokens));
    expect(droppedAt(rule, 600)).toBe(384);
    // 18 pages, 12 of them dropped; 3 packed ones in 960 bytes.
    expect(kept.blocks).toBe(3);
    const next = textOf(700);
    const found = kept.match(next)!;
    expect(found.tokens).toBe(576);
    const sequence = sequenceOf(next);
    kept.take(sequence, found);
    expect(pool.attached).toEqual({ blocks: [0, 1, 2, 3, 4, 5], droppedTokens: 384 });
    expect(sequence).toMatchObject({ computedTokens: 576, droppedTokens: 384, packedTokens: 96 });
    expect(pool.published.size).toBe(0);
    expect(kept.blocks).toBe(0);
    expect(kept.match(next)).toBeUndefined();
  });

  it('leave one token to be computed', () => {
    const { kept } = setUp();
    kept.keep(sequenceOf(textOf(640)));
    expect(kept.match(textOf(640))).toBeUndefined();
    expect(kept.match(textOf(641))?.tokens).toBe(640);
  });

  it('serve what parts from them behind their last move, and nothing that parts before', () => {
    const { kept } = setUp();
    // It last moved at 576.
    kept.keep(sequenceOf(textOf(639)));
    const parting = (at: number) => Int32Array.from(textOf(700), (token, i) => (i < at ? token : 5));
    expect(kept.match(parting(620))?.tokens).toBe(608);
    expect(kept.match(parting(580))?.tokens).toBe(576);
    expect(kept.match(parting(570))).toBeUndefined();
  });

  it('are given up in the order in which they ended, with their place in the prefix cache', () => {
    const { pool, left, kept } = setUp();
    const [first, second] = [{ key: 'first' }, { key: 'second' }] as CacheNode[];
    kept.keep(sequenceOf(textOf(600), [first!]));
    kept.keep(sequenceOf(textOf(600, 3), [second!]));
    expect(kept.match(textOf(700, 3))?.tokens).toBe(576);
    expect(kept.evict(kept.match(textOf(700))!.kept)).toBe(true);
    expect(left).toEqual([second]);
    expect(kept.match(textOf(700, 3))).toBeUndefined();
    expect(kept.evict()).toBe(true);
    expect(kept.evict()).toBe(false);
    expect(left).toEqual([second, first]);
    expect(pool.published.size).toBe(0);
    expect(kept.blocks).toBe(0);
  });
});
