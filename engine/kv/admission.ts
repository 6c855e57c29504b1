/** Output tokens that must have room when a sequence starts, beyond its prompt. More is found as it grows. */
const outputReserveTokens = 64;

export interface BlockSupply {
  readonly freeBlocks: number;
  /** Held by the prefix cache alone; given back on demand. */
  readonly evictableBlocks: number;
}

export interface Demand {
  /** Tokens whose KV must be there before the first new one can be sampled. */
  readonly tokens: number;
  /** Of these, in blocks that the sequence would share. */
  readonly sharedBlocks: number;
  readonly maxNewTokens: number;
}

export function blocksFor(tokens: number, pageTokens: number): number {
  return Math.ceil(tokens / pageTokens);
}

/**
 * Whether a sequence may start: its tokens and a reserve for its output fit in what is free or can be freed. When nothing
 * runs the reserve is waived, since no one else can take the memory.
 */
export function mayStart(demand: Demand, supply: BlockSupply, pageTokens: number, alone: boolean): boolean {
  const reserve = alone ? 1 : Math.min(demand.maxNewTokens, outputReserveTokens);
  const blocks = blocksFor(demand.tokens + reserve, pageTokens) - demand.sharedBlocks;
  return blocks <= supply.freeBlocks + supply.evictableBlocks;
}
