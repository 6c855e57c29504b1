import type { z } from 'zod';
import { EngineSettings } from '../../config/schema.js';
import type { PackedForm } from '../../engine/index.js';
import { evicting, sinkAndWindow } from './baselines.js';

/** How the engine is told to keep the KV cache. */
export type CacheSettings = z.input<typeof EngineSettings>;

/** A way to keep the KV cache. What is measured of it is not its business. */
export interface CachePolicy {
  readonly name: string;
  readonly settings: CacheSettings;
  /** What no setting asks for. */
  readonly form?: PackedForm;
}

/**
 * What the server offers: each class of `--kv` in the schema's order, so that one added there is measured here. But not
 * `pack`, which is for what is longer than the context: `tandem bench sessions` measures that.
 */
export const offeredPolicies: readonly CachePolicy[] = EngineSettings.shape.kv
  .unwrap()
  .exclude(['pack'])
  .options.map((kv) => ({ name: kv, settings: { kv } }));

/** Beside the default: below, recent tokens have nearly all of the demo model's attention; 1 is int4. */
const otherTaus = [0.9, 0.95, 0.975];
/** What policies keep that give pages up, of those behind the recent ones: exact, the bytes of int4, of zip and of int2. */
const keptParts = [0.3, 0.2, 0.17];
/** Of an exact cache whose prompts do not look everywhere. */
const prefillTaus = [0.9, 0.95, 0.975];
const percent = (part: number) => Math.round(100 * part);

export const cachePolicies: readonly CachePolicy[] = [
  ...offeredPolicies,
  ...otherTaus.map((zipTau) => ({ name: `zip-${zipTau}`, settings: { kv: 'zip' as const, zipTau } })),
  ...prefillTaus.map((prefillTau) => ({ name: `sparse-${prefillTau}`, settings: { prefillTau } })),
  ...keptParts.map((kept) => ({ name: `evict-${percent(kept)}`, settings: {}, form: evicting(kept) })),
  ...keptParts.map((kept) => ({ name: `window-${percent(kept)}`, settings: {}, form: sinkAndWindow(kept) })),
];

const exactClass: EngineSettings['kv'] = 'exact';

/** What the others are compared with. */
export const exactPolicy = policyNamed(exactClass);

/** Throws an Error that names those there are. */
export function policyNamed(name: string): CachePolicy {
  const policy = cachePolicies.find((known) => known.name === name);
  if (policy) return policy;
  throw new Error(`"${name}" is no cache policy: ${cachePolicies.map((known) => known.name).join(', ')}`);
}
