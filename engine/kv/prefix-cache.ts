import type { CacheStats } from '../types.js';

/** A cached block: the KV of `pageTokens` tokens that follow those of its parent. */
export interface CacheNode {
  readonly parent: CacheNode | null;
  readonly key: string;
  readonly block: number;
  readonly children: Map<string, CacheNode>;
  /** Sequences that run on this block. */
  users: number;
}

/** How the cache shares a sequence's full block and gives blocks back; `KvPool` has both. */
export interface BlockStore {
  publish(slot: number, index: number): number;
  unpublish(blocks: Int32Array): void;
}

/**
 * A radix tree over blocks of tokens: a path from the root spells a prompt. Blocks that no sequence uses stay until
 * memory is wanted; then the least recently used go first, leaves before their parents.
 */
export class PrefixCache {
  readonly #root: CacheNode = { parent: null, key: '', block: -1, children: new Map(), users: 1 };
  /** Nodes without users, the least recently used first. */
  readonly #idle = new Set<CacheNode>();
  #blocks = 0;
  #hitTokens = 0;
  #queriedTokens = 0;
  #evictedBlocks = 0;

  constructor(
    private readonly store: BlockStore,
    private readonly pageTokens: number,
  ) {}

  get evictableBlocks(): number {
    return this.#idle.size;
  }

  stats(): CacheStats {
    return {
      blocks: this.#blocks,
      hitTokens: this.#hitTokens,
      queriedTokens: this.#queriedTokens,
      evictedBlocks: this.#evictedBlocks,
    };
  }

  /**
   * The cached blocks that `tokens` begins with. At least one token is left over, since the last must be computed to
   * sample what follows it. Changes nothing but the order of eviction.
   */
  match(tokens: Int32Array): CacheNode[] {
    const path: CacheNode[] = [];
    let node = this.#root;
    for (let end = this.pageTokens; end < tokens.length; end += this.pageTokens) {
      const child = node.children.get(this.#keyOf(tokens, end));
      if (!child) break;
      path.push(child);
      node = child;
    }
    return path;
  }

  /** A sequence starts on the blocks of `path`, which stay until it calls `release`. */
  use(path: readonly CacheNode[], promptTokens: number): void {
    this.#queriedTokens += promptTokens;
    this.#hitTokens += path.length * this.pageTokens;
    this.share(path);
  }

  /** One more sequence on the blocks of `path`; not a look-up, so it does not count as one. */
  share(path: readonly CacheNode[]): void {
    for (const node of path) this.#addUser(node);
  }

  /**
   * Shares the slot's full blocks of `tokens` beyond `path`, which grows by them. Where another sequence has cached the
   * same tokens meanwhile, its block serves.
   */
  extend(path: CacheNode[], slot: number, tokens: Int32Array): void {
    let node = path.at(-1) ?? this.#root;
    for (let index = path.length; (index + 1) * this.pageTokens <= tokens.length; index++) {
      const key = this.#keyOf(tokens, (index + 1) * this.pageTokens);
      let child = node.children.get(key);
      if (!child) {
        child = { parent: node, key, block: this.store.publish(slot, index), children: new Map(), users: 0 };
        node.children.set(key, child);
        this.#blocks++;
      }
      this.#addUser(child);
      path.push(child);
      node = child;
    }
  }

  release(path: readonly CacheNode[]): void {
    // Leaves first, so that they are also evicted first.
    for (const node of path.toReversed()) {
      node.users--;
      if (node.users === 0) this.#idle.add(node);
    }
  }

  /** Gives back up to `count` blocks that nobody uses; returns how many. */
  evict(count: number): number {
    const blocks: number[] = [];
    while (blocks.length < count) {
      const node = this.#oldestLeaf();
      if (!node) break;
      this.#idle.delete(node);
      node.parent?.children.delete(node.key);
      blocks.push(node.block);
    }
    if (blocks.length > 0) this.store.unpublish(Int32Array.from(blocks));
    this.#blocks -= blocks.length;
    this.#evictedBlocks += blocks.length;
    return blocks.length;
  }

  #oldestLeaf(): CacheNode | undefined {
    for (const node of this.#idle) if (node.children.size === 0) return node;
    return undefined;
  }

  #addUser(node: CacheNode): void {
    if (node.users === 0) this.#idle.delete(node);
    node.users++;
  }

  /** The bytes of the block's tokens: cheaper to make and to compare than any text of the numbers. */
  #keyOf(tokens: Int32Array, end: number): string {
    const bytes = this.pageTokens * Int32Array.BYTES_PER_ELEMENT;
    const offset = tokens.byteOffset + end * Int32Array.BYTES_PER_ELEMENT - bytes;
    return Buffer.from(tokens.buffer, offset, bytes).toString('latin1');
  }
}
