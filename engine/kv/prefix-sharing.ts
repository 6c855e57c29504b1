import type { Sequence } from '../sequence.js';
import { commonPages } from './common-pages.js';
import type { CacheNode, PrefixCache } from './prefix-cache.js';
import { tailProbes } from './probes.js';
import type { Sights } from './sights.js';
import type { SparsePrefill } from './sparse-prefill.js';

export interface PrefixSharingOptions {
  /** Absent: nothing is shared. */
  readonly cache: PrefixCache | undefined;
  readonly pageTokens: number;
  readonly sights: Sights;
  /** Absent: the rows of a prompt look everywhere. */
  readonly sparse: SparsePrefill | undefined;
  /** Tokens of a prompt of so many that are computed while all is exact. */
  readonly exactTokens: (promptTokens: number) => number;
  /** Whether where a sequence looks decides how it is packed. */
  readonly probes: boolean;
}

/** How much of a sequence is what any other that begins alike would have computed: that much the cache has, or is given. */
export class PrefixSharing {
  constructor(private readonly options: PrefixSharingOptions) {}

  /** The cached blocks that the sequence can begin with. Changes nothing but the order of eviction. */
  match(sequence: Sequence): CacheNode[] {
    const { cache, pageTokens, sparse } = this.options;
    if (sequence.isScored || !cache) return [];
    const path = cache.match(sequence.identity.view(0, this.#mostCached(sequence) + 1));
    if (!sparse) return path;
    const usable = sparse.usableTokens(
      sequence.promptTokens,
      path.length * pageTokens,
      (stretch) => path[stretch * sparse.stretchPages - 1]!.seen !== undefined,
    );
    return path.slice(0, usable / pageTokens);
  }

  /** Lets the cache have the sequence's full blocks, as long as all of them are what any request would have computed. */
  share(sequence: Sequence): void {
    // While some of its blocks are converted, none can be exchanged for one of the cache; it is asked again when they are.
    if (sequence.packedTokens > 0 || sequence.convertedTokens > 0) return;
    const { path, slot, identity } = sequence;
    this.options.cache?.extend(path, slot, identity.view(0, this.#sharedTokens(sequence)));
    this.options.sights.teach(sequence);
  }

  /** Tokens that the sequence could begin with once the cache has what `ended` holds, whose pages are still in use. */
  tokensBehind(ended: Sequence, sequence: Sequence): number {
    if (!this.options.cache?.keeps) return 0;
    const left = ended.identity.view(0, this.#sharedTokens(ended));
    return commonPages(left, sequence.identity.view(0, this.#mostCached(sequence)), this.options.pageTokens);
  }

  /** Tokens of what is computed that any other would have computed alike. */
  #sharedTokens({ promptTokens, computedTokens }: Sequence): number {
    const { sparse, exactTokens } = this.options;
    const common = sparse?.commonTokens(promptTokens) ?? Number.POSITIVE_INFINITY;
    return Math.min(computedTokens, common, exactTokens(promptTokens));
  }

  /** Tokens that may come from the cache: one is always left over, to sample what follows it. */
  #mostCached({ promptTokens, tokenCount }: Sequence): number {
    const { sparse, exactTokens, probes } = this.options;
    // What was computed by rows that look elsewhere is not what this prompt would compute.
    const common = Math.min(tokenCount - 1, sparse?.commonTokens(promptTokens) ?? Number.POSITIVE_INFINITY);
    // The probes must be seen anew.
    if (probes) return Math.min(common, Math.max(0, promptTokens - tailProbes));
    // What was computed behind packed tokens is not what a prompt of the same tokens holds there.
    return Math.min(common, exactTokens(promptTokens));
  }
}
