import type { ModelSizes } from '../../engine/index.js';

interface KvPolicy {
  /** Bytes of one head's K and V of a token, of `headDim` elements each. */
  readonly headBytes: (headDim: number) => number;
  readonly about: string;
}

/**
 * `bf16` and `int8` (a float32 scale for a token's keys and one for its values, a head) are classes in which the engine
 * leaves all KV; its int4 and int2, which follow exact KV, are not simulated. The others ask what one could serve *if* the
 * cache were so small; time for packing and loss of quality are not in it.
 */
export const kvPolicies = {
  bf16: { headBytes: (headDim) => 4 * headDim, about: 'exact' },
  int8: { headBytes: (headDim) => 2 * headDim + 8, about: 'int8 codes with their scales' },
  'what-if-zip': {
    headBytes: (headDim) => 0.6 * (headDim + 8) + 0.4 * (headDim / 2 + 8),
    about: 'if 60% of the tokens were int4 and 40% int2, with scales (ZipVL)',
  },
  'what-if-pack': {
    headBytes: (headDim) => headDim / 2,
    about: 'if an eighth of the exact bytes were kept (PackForcing, long sessions)',
  },
} as const satisfies Record<string, KvPolicy>;

export type KvPolicyName = keyof typeof kvPolicies;
export const kvPolicyNames = Object.keys(kvPolicies) as KvPolicyName[];

/** Bytes of one token's K and V in all layers. */
export function kvBytesPerToken({ layers, kvHeads, headDim }: ModelSizes, policy: KvPolicyName): number {
  return layers * kvHeads * kvPolicies[policy].headBytes(headDim);
}
