import type { EngineSettings, ModelSettings } from '../config/schema.js';
import type { CudaDevice } from './device/native.js';
import { EngineError } from './errors.js';

/** Bytes that must find room on a GPU. */
export interface GpuNeeds {
  readonly weightBytes: number;
  /** 0 where KV takes what is left. */
  readonly kvBytes: number;
}

/**
 * Throws `EngineError` if a model cannot fit a GPU, with what to lower, before minutes of loading show it. What else holds
 * memory there is seen by native when it opens.
 */
export function checkFits(
  { weightBytes, kvBytes }: GpuNeeds,
  { model, engine }: { readonly model: ModelSettings; readonly engine: EngineSettings },
  { name, memoryBytes }: CudaDevice,
  memoryFraction: number,
): void {
  const room = memoryBytes * memoryFraction;
  if (weightBytes + kvBytes < room) return;
  const ways = [
    ...(model.weights === 'bf16' ? ['smaller weights (--weights int8)'] : []),
    ...(engine.kvMemory === undefined ? [] : ['a smaller --kv-memory']),
    'a smaller model',
  ];
  const kv = kvBytes === 0 ? '' : ` and ${gibibytes(kvBytes)} of KV cache`;
  throw new EngineError(
    'device_unavailable',
    `${gibibytes(weightBytes)} of ${model.weights} weights${kv} do not fit ${name}, where Tandem may use ${gibibytes(room)} ` +
      `of ${gibibytes(memoryBytes)} (--gpu-memory-fraction ${memoryFraction}): take ${ways.join(' or ')}`,
  );
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
