/** Output tokens that must have room when a sequence starts, beyond its prompt. More is found as it grows. */
const outputReserveTokens = 64;

/**
 * Tokens that must have room beside a sequence's own when it starts. A lone one needs room for its next token only, since
 * no one else can take the memory.
 */
export function outputReserve(remainingOutput: number, isAlone: boolean): number {
  return isAlone ? Math.min(remainingOutput, 1) : Math.min(remainingOutput, outputReserveTokens);
}

export function blocksFor(tokens: number, pageTokens: number): number {
  return Math.ceil(tokens / pageTokens);
}
