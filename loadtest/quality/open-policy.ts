import { EngineSettings, ModelSettings } from '../../config/schema.js';
import {
  type Device,
  openDevice,
  PackingRule,
  packingRule,
  pageTokens,
  readCheckpoint,
  sparsePrefill,
} from '../../engine/index.js';
import { packedDevice } from '../device/packed-device.js';
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

/** A device that keeps its KV cache as the policy says. */
export async function openPolicy({ settings, form }: CachePolicy, room: PolicyRoom): Promise<Device> {
  const { spec } = await readCheckpoint(room.model);
  // K and V in bf16, the largest class.
  const bytesPerToken = spec.layers * spec.kvHeads * spec.headDim * 2 * 2;
  // Each sequence's last page may be partly filled.
  const engine = EngineSettings.parse({
    ...room.engine,
    maxSequences: room.sequences,
    kvMemory: (room.kvTokens + room.sequences * pageTokens) * bytesPerToken,
    ...settings,
  });
  const model = ModelSettings.parse({ path: room.model, weights: room.weights });
  const { device } = await openDevice({ model, engine });
  const rule = form ? new PackingRule(form, engine.kvRecentTokens, pageTokens) : packingRule(engine);
  const sparse = sparsePrefill(engine, spec);
  return rule || sparse ? packedDevice(device, { packing: rule, sparse }) : device;
}
