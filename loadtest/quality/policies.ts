import type { z } from 'zod';
import { EngineSettings } from '../../config/schema.js';

/** How the engine is told to keep the KV cache. */
export type CacheSettings = z.input<typeof EngineSettings>;

/** A way to keep the KV cache. What is measured of it is not its business. */
export interface CachePolicy {
  readonly name: string;
  readonly settings: CacheSettings;
}

/** What the server offers: each class of `--kv` in the schema's order, so that one added there is measured here. */
export const cachePolicies: readonly CachePolicy[] = EngineSettings.shape.kv
  .unwrap()
  .options.map((kv) => ({ name: kv, settings: { kv } }));

const exactClass: EngineSettings['kv'] = 'exact';

/** What the others are compared with. */
export const exactPolicy = policyNamed(exactClass);

/** Throws an Error that names those there are. */
export function policyNamed(name: string): CachePolicy {
  const policy = cachePolicies.find((known) => known.name === name);
  if (policy) return policy;
  throw new Error(`"${name}" is no cache policy: ${cachePolicies.map((known) => known.name).join(', ')}`);
}
