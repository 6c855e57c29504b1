import type { CacheStats } from '../types.js';
import type { SeenPages } from './sparse-prefill.js';

/** A cached block: the KV of `pageTokens` tokens that follow those of its parent. */
export interface CacheNode {
  readonly parent: CacheNode | null;
  readonly key: string;
  readonly block: number;
  readonly children: Map<string, CacheNode>;
  /** Sequences that run on this block. */
  users: number;
  /** Where rows that come behind it look, if they look at some pages only and begin to look elsewhere there. */
  seen?: SeenPages;
  /** Slots that hold its pages all the same, so that to give it back frees nothing. */
  holders: number;
  /** The same tokens packed, by the classes of their pages, for the sequences that go on with them so. */
  readonly packed: Map<string, PackedBlock>;
  /** Those that a sequence is making now. */
  readonly packing: Set<string>;
}

interface PackedBlock {
  readonly block: number;
  users: number;
}

/** How the cache shares a sequence's full block and gives blocks back; `KvPool` has all three. */
export interface BlockStore {
  publish(slot: number, index: number): number;
  replace(slot: number, index: number, block: number): void;
  unpublish(blocks: Int32Array): void;
}

function newNode(parent: CacheNode | null, key: string, block: number): CacheNode {
  return {
    parent,
    key,
    block,
    children: new Map(),
    users: 0,
    holders: 0,
    packed: new Map(),
    packing: new Set(),
  };
}

/**
 * A radix tree over blocks of tokens: a path from the root spells a prompt. Blocks that no sequence uses stay until
 * memory is wanted; then the least recently used go first, leaves before their parents.
 *
 * What is kept is exact, and was computed from exact tokens, so whoever begins with it sees what it would have computed
 * itself. A packed form of a block lives as long as sequences run on it that begin with the same tokens and pack them into
 * the same classes: they would have made the same bytes of the same exact block.
 */
export class PrefixCache {
  readonly #root = newNode(null, '', -1);
  /** Nodes without users, the least recently used first. */
  readonly #idle = new Set<CacheNode>();
  /** Of these, those with holders. */
  #heldIdle = 0;
  #blocks = 0;
  #hitTokens = 0;
  #queriedTokens = 0;
  #evictedBlocks = 0;

  /** `keeps`: whether blocks stay for later requests. Without, they are shared by the choices of one request alone. */
  constructor(
    private readonly store: BlockStore,
    private readonly pageTokens: number,
    readonly keeps = true,
  ) {}

  /** Blocks whose memory would be free if they were given back. */
  get evictableBlocks(): number {
    return this.#idle.size - this.#heldIdle;
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
    this.count(promptTokens, path.length * this.pageTokens);
    this.share(path);
  }

  /** A sequence of so many tokens starts, of which so many are there. */
  count(promptTokens: number, hitTokens: number): void {
    this.#queriedTokens += promptTokens;
    this.#hitTokens += hitTokens;
  }

  /** One more sequence on the blocks of `path`; not a look-up, so it does not count as one. */
  share(path: readonly CacheNode[]): void {
    for (const node of path) this.#addUser(node);
  }

  /**
   * Shares the slot's full blocks of `tokens` beyond `path`, which grows by them. Where another sequence has cached the
   * same tokens meanwhile, its block takes the place of the slot's own.
   */
  extend(path: CacheNode[], slot: number, tokens: Int32Array): void {
    let node = path.at(-1) ?? this.#root;
    for (let index = path.length; (index + 1) * this.pageTokens <= tokens.length; index++) {
      const key = this.#keyOf(tokens, (index + 1) * this.pageTokens);
      let child = this.keeps ? node.children.get(key) : undefined;
      if (child) {
        this.store.replace(slot, index, child.block);
      } else {
        child = newNode(node, key, this.store.publish(slot, index));
        if (this.keeps) node.children.set(key, child);
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
      if (node.users > 0) continue;
      if (this.keeps) this.#setIdle(node);
      else this.#giveBack([node]);
    }
  }

  /**
   * A sequence that begins to be packed does not need the exact blocks of its path any more, which may be given back,
   * though its slot holds all of them until they are packed.
   */
  unpin(path: readonly CacheNode[]): void {
    for (const node of path) this.#addHolder(node);
    this.release(path);
  }

  /** A slot holds the pages of these blocks no more, whose path was unpinned. */
  leave(nodes: readonly CacheNode[]): void {
    for (const node of nodes) this.#removeHolder(node);
  }

  /**
   * The slot goes on with block `index` packed into these classes, which it has done or which another sequence has.
   * `before`: what it was packed into till then, if it was.
   */
  becamePacked(node: CacheNode, classes: string, slot: number, index: number, before?: string): void {
    let packed = node.packed.get(classes);
    if (packed) {
      this.store.replace(slot, index, packed.block);
    } else {
      packed = { block: this.store.publish(slot, index), users: 0 };
      node.packed.set(classes, packed);
    }
    packed.users++;
    if (before === undefined) this.#removeHolder(node);
    else this.#leavePacked(node, before);
  }

  /** A sequence ends, or leaves its slot, whose first blocks are packed into these classes, one for each. */
  releasePacked(path: readonly CacheNode[], classes: readonly string[]): void {
    path.forEach((node, index) => {
      const key = classes[index];
      if (key === undefined) {
        this.#removeHolder(node);
        return;
      }
      this.#leavePacked(node, key);
    });
  }

  #leavePacked(node: CacheNode, classes: string): void {
    const packed = node.packed.get(classes)!;
    if (--packed.users > 0) return;
    this.store.unpublish(Int32Array.of(packed.block));
    node.packed.delete(classes);
  }

  /** Gives back blocks that nobody uses until the memory of `count` is free; returns of how many it is. */
  evict(count: number): number {
    const nodes: CacheNode[] = [];
    let freed = 0;
    while (freed < count) {
      const node = this.#oldestLeaf();
      if (!node) break;
      this.#idle.delete(node);
      if (node.holders > 0) this.#heldIdle--;
      else freed++;
      node.parent?.children.delete(node.key);
      nodes.push(node);
    }
    this.#giveBack(nodes);
    this.#evictedBlocks += nodes.length;
    return freed;
  }

  #giveBack(nodes: readonly CacheNode[]): void {
    if (nodes.length === 0) return;
    this.store.unpublish(Int32Array.from(nodes, ({ block }) => block));
    this.#blocks -= nodes.length;
  }

  #setIdle(node: CacheNode): void {
    this.#idle.add(node);
    if (node.holders > 0) this.#heldIdle++;
  }

  #addHolder(node: CacheNode): void {
    if (node.holders++ === 0 && this.#idle.has(node)) this.#heldIdle++;
  }

  #removeHolder(node: CacheNode): void {
    if (--node.holders === 0 && this.#idle.has(node)) this.#heldIdle--;
  }

  #oldestLeaf(): CacheNode | undefined {
    for (const node of this.#idle) if (node.children.size === 0) return node;
    return undefined;
  }

  #addUser(node: CacheNode): void {
    if (node.users === 0 && this.#idle.delete(node) && node.holders > 0) this.#heldIdle--;
    node.users++;
  }

  /** The bytes of the block's tokens: cheaper to make and to compare than any text of the numbers. */
  #keyOf(tokens: Int32Array, end: number): string {
    const bytes = this.pageTokens * Int32Array.BYTES_PER_ELEMENT;
    const offset = tokens.byteOffset + end * Int32Array.BYTES_PER_ELEMENT - bytes;
    return Buffer.from(tokens.buffer, offset, bytes).toString('latin1');
  }
}
