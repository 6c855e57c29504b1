import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { type Device, openDevice, readCheckpoint } from '../../engine/index.js';

export interface BenchDeviceOptions {
  readonly model: string;
  readonly weights: 'bf16' | 'int8' | 'int4';
  readonly kv: 'exact' | 'int8';
  /** Tokens of one prefill step. */
  readonly stepTokens: number;
  readonly sequences: number;
  /** Tokens that all sequences together hold at most. */
  readonly kvTokens: number;
  /** All of the machine if absent. */
  readonly cores?: number;
  readonly isa?: 'amx' | 'avx512' | 'avx2' | 'portable';
}

/** A device with as much KV memory as the measurements need. */
export async function openBenchDevice(options: BenchDeviceOptions): Promise<Device> {
  const { spec } = await readCheckpoint(options.model);
  // K and V in bf16, the largest class.
  const bytesPerToken = spec.layers * spec.kvHeads * spec.headDim * 2 * 2;
  // Each sequence's last page may be partly filled.
  const pageTokens = 32;
  const { device } = await openDevice({
    model: ModelSettings.parse({ path: options.model, weights: options.weights }),
    engine: EngineSettings.parse({
      kv: options.kv,
      kvMemory: (options.kvTokens + options.sequences * pageTokens) * bytesPerToken,
      maxSequences: options.sequences,
      maxStepTokens: options.stepTokens,
      ...(options.cores !== undefined && { cores: options.cores }),
      ...(options.isa !== undefined && { isa: options.isa }),
    }),
  });
  return device;
}
