/** A cached block: the KV of the tokens that one hash stands for, and, since hashes are chained, of all before them. */
export interface CachedPrefix {
  readonly hash: number;
  readonly parent: CachedPrefix | null;
  children: number;
  users: number;
}

/**
 * The prefix cache where prompts are known by the hashes of their blocks: the same rules as `engine/kv/prefix-cache.ts`.
 * What nobody uses stays until memory is wanted; then the least recently used goes first, leaves before their parents.
 */
export class SimulatedCache {
  readonly #blocks = new Map<number, CachedPrefix>();
  /** Without users, the least recently used first. */
  readonly #idle = new Set<CachedPrefix>();
  hitTokens = 0;
  queriedTokens = 0;

  constructor(readonly blockTokens: number) {}

  get idleBlocks(): number {
    return this.#idle.size;
  }

  get blocks(): number {
    return this.#blocks.size;
  }

  /** How many whole blocks of a prompt are cached; at least one token is left over, to sample from. */
  matching(hashes: readonly number[], promptTokens: number): number {
    const most = Math.min(hashes.length, Math.floor((promptTokens - 1) / this.blockTokens));
    let count = 0;
    while (count < most && this.#blocks.has(hashes[count]!)) count++;
    return count;
  }

  /** Of the first `count` blocks, those that no one uses. */
  idleAmong(hashes: readonly number[], count: number): number {
    let idle = 0;
    for (let index = 0; index < count; index++) if (this.#blocks.get(hashes[index]!)!.users === 0) idle++;
    return idle;
  }

  use(hashes: readonly number[], count: number): CachedPrefix[] {
    const path: CachedPrefix[] = [];
    for (let index = 0; index < count; index++) {
      const block = this.#blocks.get(hashes[index]!)!;
      this.#addUser(block);
      path.push(block);
    }
    return path;
  }

  /** Shares the blocks of `hashes` up to `count`, beyond those of `path`, which grows. Returns how many are new. */
  extend(path: CachedPrefix[], hashes: readonly number[], count: number): number {
    let added = 0;
    for (let index = path.length; index < count; index++) {
      const hash = hashes[index]!;
      let block = this.#blocks.get(hash);
      if (!block) {
        const parent = path.at(-1) ?? null;
        block = { hash, parent, children: 0, users: 0 };
        if (parent) parent.children++;
        this.#blocks.set(hash, block);
        added++;
      }
      this.#addUser(block);
      path.push(block);
    }
    return added;
  }

  release(path: readonly CachedPrefix[]): void {
    for (let index = path.length - 1; index >= 0; index--) {
      const block = path[index]!;
      block.users--;
      if (block.users === 0) this.#idle.add(block);
    }
  }

  /** Gives back up to `count` blocks that nobody uses; returns how many. */
  evict(count: number): number {
    let evicted = 0;
    while (evicted < count) {
      const block = this.#oldestLeaf();
      if (!block) break;
      this.#idle.delete(block);
      this.#blocks.delete(block.hash);
      if (block.parent) block.parent.children--;
      evicted++;
    }
    return evicted;
  }

  #oldestLeaf(): CachedPrefix | undefined {
    for (const block of this.#idle) if (block.children === 0) return block;
    return undefined;
  }

  #addUser(block: CachedPrefix): void {
    if (block.users === 0) this.#idle.delete(block);
    block.users++;
  }
}
