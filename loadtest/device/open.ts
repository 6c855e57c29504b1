import { EngineSettings, ModelSettings } from '../../config/schema.js';
import {
  type Device,
  openDevice,
  type PackingRule,
  packingRule,
  pageTokens,
  readCheckpoint,
} from '../../engine/index.js';

export interface BenchDeviceOptions {
  readonly model: string;
  readonly weights: 'bf16' | 'int8' | 'int4';
  readonly kv: EngineSettings['kv'];
  /** Tokens of one prefill step. */
  readonly stepTokens: number;
  /** The processor if absent. */
  readonly device?: EngineSettings['device'];
  readonly sequences: number;
  /** Tokens that all sequences together hold at most. */
  readonly kvTokens: number;
  /** All of the machine if absent. */
  readonly cores?: number;
  readonly isa?: EngineSettings['isa'];
}

export interface BenchDevice {
  readonly device: Device;
  /** How the engine would pack KV here; undefined: not at all. */
  readonly packing: PackingRule | undefined;
}

/** A device with as much KV memory as the measurements need. */
export async function openBenchDevice(options: BenchDeviceOptions): Promise<BenchDevice> {
  const { spec } = await readCheckpoint(options.model);
  // K and V in bf16, the largest class.
  const bytesPerToken = spec.layers * spec.kvHeads * spec.headDim * 2 * 2;
  // Each sequence's last page may be partly filled.
  const exactTokens = options.kvTokens + options.sequences * pageTokens;
  const engine = EngineSettings.parse({
    device: options.device ?? 'cpu',
    kv: options.kv,
    kvMemory: Math.ceil(exactTokens * bytesPerToken * roomForBoth(options.kv)),
    maxSequences: options.sequences,
    maxStepTokens: options.stepTokens,
    ...(options.cores !== undefined && { cores: options.cores }),
    ...(options.isa !== undefined && { isa: options.isa }),
  });
  const model = ModelSettings.parse({ path: options.model, weights: options.weights });
  const { device } = await openDevice({ model, engine });
  return { device, packing: packingRule(engine) };
}

/** While pages are packed there are both forms of them. */
function roomForBoth(kv: EngineSettings['kv']): number {
  return kv === 'exact' || kv === 'int8' ? 1 : 1.5;
}
