import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { type Device, openDevice, readCheckpoint } from '../../engine/index.js';
import type { CachePolicy, CacheSettings } from './policies.js';

/** The model, and what of it all measures need at most at once. */
export interface PolicyRoom {
  readonly model: string;
  readonly weights: ModelSettings['weights'];
  readonly sequences: number;
  /** Tokens that all sequences together hold. */
  readonly kvTokens: number;
  /** The same for every policy. */
  readonly engine: Pick<CacheSettings, 'maxStepTokens' | 'cores' | 'isa'>;
}

/**
 * A device that keeps its KV cache as the policy says. Throws an Error if it would not: what is measured under a policy's
 * name must be that policy.
 */
export async function openPolicy({ name, settings }: CachePolicy, room: PolicyRoom): Promise<Device> {
  const { spec } = await readCheckpoint(room.model);
  // K and V in bf16, the largest class.
  const bytesPerToken = spec.layers * spec.kvHeads * spec.headDim * 2 * 2;
  // Each sequence's last page may be partly filled.
  const pageTokens = 32;
  const { device } = await openDevice({
    model: ModelSettings.parse({ path: room.model, weights: room.weights }),
    engine: EngineSettings.parse({
      ...room.engine,
      maxSequences: room.sequences,
      kvMemory: (room.kvTokens + room.sequences * pageTokens) * bytesPerToken,
      ...settings,
    }),
  });
  const { kv = 'exact' } = settings;
  const wanted = kv === 'exact' ? 'bf16' : kv;
  if (device.kv.precision === wanted) return device;
  await device.close();
  throw new Error(
    `"${name}" cannot be measured: its device keeps pages of ${device.kv.precision}, not of ${wanted}`,
  );
}
