import path from 'node:path';
import { chooseDevice } from '../choose-device.js';
import type { Device } from '../device/device.js';
import { cudaInfo } from '../device/native.js';
import { readCheckpoint } from '../model/checkpoint.js';
import { packedWeightBytes } from '../model/weight-bytes.js';
import { type DeviceSettings, openDevice, stepTokens } from '../open-device.js';
import { kvBytesFor, slotsFor } from './micro-runner.js';
import { poolBytesFor } from './pool-bytes.js';

/** More sequences at once cost no more than these teach. */
const mostSequences = 64;

export interface CalibrationDevice {
  readonly device: Device;
  readonly maxSequences: number;
  /** KV memory for contexts to be made of. */
  readonly poolBytes: number;
  /** Longest sequence. */
  readonly contextLength: number;
  /** See `OpenedDevice`. */
  readonly notes: readonly string[];
}

/** A device as the engine would open it, with the KV memory and the slots that micro-runs need. */
export async function openCalibrationDevice(settings: DeviceSettings): Promise<CalibrationDevice> {
  const checkpoint = await readCheckpoint(path.resolve(settings.model.path));
  const { spec } = checkpoint;
  const choice = chooseDevice(settings.engine, cudaInfo);
  const maxSequences = Math.min(settings.engine.maxSequences, mostSequences);
  const contextLength = Math.min(settings.engine.contextLength ?? spec.contextLength, spec.contextLength);
  // K and V in bf16, the largest class.
  const kvBytesPerToken = spec.layers * spec.kvHeads * spec.headDim * 2 * 2;
  const maxStepTokens = Math.min(
    Math.max(stepTokens(settings.engine, choice.kind), slotsFor(maxSequences)),
    contextLength,
  );
  const poolBytes = poolBytesFor(
    spec.layers,
    choice.kind === 'cuda'
      ? {
          l2Bytes: choice.found.l2Bytes,
          roomBytes:
            choice.found.memoryBytes * choice.memoryFraction -
            packedWeightBytes(checkpoint, settings.model.weights),
        }
      : undefined,
  );
  const { device, notes } = await openDevice({
    model: settings.model,
    engine: {
      ...settings.engine,
      kvMemory: poolBytes + kvBytesFor(maxSequences, maxStepTokens, kvBytesPerToken),
      maxSequences: slotsFor(maxSequences),
      maxStepTokens,
    },
  });
  return { device, maxSequences, poolBytes, contextLength, notes };
}
