/** Prompts' parts of one step. */
export interface PromptChunk<T> {
  readonly work: T;
  readonly tokens: number;
}

/**
 * Chunks in a step that decodes too are multiples of this: half of the 16 rows of a matmul tile. A whole tile beside a few
 * streams would make their step too long where rows are dear, as they are on a few cores.
 */
export const mixedGrain = 8;

/**
 * Fills a step of at most `budget` tokens from `ordered`, first come first served: several short prompts share a step,
 * and a prompt that is longer than what is left brings a chunk of it. A chunk that does not end its prompt ends at a
 * multiple of `grain`, so that the next one starts on a fresh page (or, in small steps, on a fresh row of tiles). Where
 * not even one grain is left for the first prompt, it gets what is left: someone must get on. A prompt without room for
 * its chunk is passed over. `limitOf`: tokens that a chunk of this prompt may have at most.
 */
export function planChunks<T extends { readonly remainingTokens: number; readonly computedTokens: number }>(
  ordered: Iterable<T>,
  budget: number,
  grain: number,
  limitOf: (work: T) => number,
  hasRoom: (work: T, tokens: number) => boolean = () => true,
): PromptChunk<T>[] {
  const chunks: PromptChunk<T>[] = [];
  let left = budget;
  for (const work of ordered) {
    if (left <= 0) break;
    const remaining = Math.min(work.remainingTokens, limitOf(work));
    let tokens = chunkTokens(remaining, work.computedTokens, left, grain);
    if (tokens === 0 && chunks.length === 0) tokens = left;
    if (tokens === 0 || !hasRoom(work, tokens)) continue;
    chunks.push({ work, tokens });
    left -= tokens;
  }
  return chunks;
}

function chunkTokens(remaining: number, computed: number, left: number, grain: number): number {
  if (remaining <= left) return remaining;
  const end = Math.floor((computed + left) / grain) * grain;
  return Math.max(0, end - computed);
}
