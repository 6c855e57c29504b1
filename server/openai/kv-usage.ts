import type { KvUsage, Usage } from '../../engine/index.js';

/** `tandem.kv` of a usage, where it was asked for: over all prompts of a request. */
export function kvBody(usages: readonly Usage[]): { tandem?: object } {
  const all = usages.flatMap(({ kv }) => kv ?? []);
  if (all.length === 0) return {};
  const sum = (pick: (kv: KvUsage) => number) => all.reduce((total, kv) => total + pick(kv), 0);
  const [{ layers }] = all as [KvUsage];
  const kept = layers.map((_, layer) => {
    const packed = sum((kv) => kv.layers[layer]?.all ?? 0);
    return packed === 0 ? null : sum((kv) => kv.layers[layer]?.high ?? 0) / packed;
  });
  const dropped = sum((kv) => kv.droppedTokens);
  const far = sum((kv) => kv.farTokens);
  return {
    tandem: {
      kv: {
        tokens: sum((kv) => kv.tokens),
        bytes: sum((kv) => kv.bytes),
        ...(kept.length > 0 && { kept }),
        ...(far > 0 && { far_tokens: far }),
        ...(dropped > 0 && { dropped_tokens: dropped }),
      },
    },
  };
}
