import type { EngineSettings } from '../config/schema.js';
import { howToBuild, whyNotOn } from './device/cuda-kernels.js';
import type { CudaDevice, CudaInfo } from './device/native.js';
import { EngineError } from './errors.js';

/** What the engine computes on, and what a person should know of how it was chosen. */
export type DeviceChoice = { readonly notes: readonly string[] } & (
  | { readonly kind: 'cpu' }
  | {
      readonly kind: 'cuda';
      readonly gpu: number;
      readonly found: CudaDevice;
      readonly memoryFraction: number;
    }
);

/** Of a GPU's free memory: the rest is for what the driver takes when kernels run for the first time. */
const usualMemoryFraction = 0.9;

/** Settings that speak of the processor, and those that speak of a GPU. */
const ofProcessor = { cores: '--cores', isa: '--isa' } as const;
const ofGpu = { gpu: '--gpu', gpuMemoryFraction: '--gpu-memory-fraction' } as const;

/**
 * The device that the settings ask for. `auto` takes a GPU where one can be used, unless settings speak of the processor.
 * Throws `EngineError` where a device is asked for by name and cannot be had, or where settings contradict it.
 */
export function chooseDevice(engine: EngineSettings, cudaInfo: () => CudaInfo): DeviceChoice {
  const { device } = engine;
  const processor = given(engine, ofProcessor);
  const gpu = given(engine, ofGpu);
  if (device === 'cpu') {
    if (gpu)
      throw refused(`${gpu} is about a GPU, and --device cpu computes on the processor: leave one away`);
    return { kind: 'cpu', notes: [] };
  }
  if (device === 'cuda' && processor) {
    throw refused(`${processor} is about the processor, and --device cuda computes on a GPU: leave one away`);
  }
  if (processor) {
    if (gpu) throw refused(`${processor} is about the processor, and ${gpu} about a GPU: leave one away`);
    return { kind: 'cpu', notes: [] };
  }
  const info = cudaInfo();
  const index = engine.gpu ?? 0;
  const problem = problemOf(info, index);
  if (problem === undefined) {
    const found = info.devices[index]!;
    const { name, whyNoSplit } = found;
    const shared = `prefill and decode share ${name} by priority and not by SMs: ${whyNoSplit}`;
    return {
      kind: 'cuda',
      gpu: index,
      found,
      memoryFraction: engine.gpuMemoryFraction ?? usualMemoryFraction,
      notes: whyNoSplit === '' ? [] : [shared],
    };
  }
  if (device === 'cuda' || gpu) throw refused(`${gpu ?? '--device cuda'}: ${problem}`);
  // Where there is no GPU nobody asks why it is not used.
  const isThere = info.devices.length > 0 || info.driverVersion !== '';
  return { kind: 'cpu', notes: isThere ? [`computing on the processor: ${problem}`] : [] };
}

/** Why that GPU cannot be used; undefined where it can. */
function problemOf(info: CudaInfo, index: number): string | undefined {
  if (!info.built) return howToBuild;
  if (info.devices.length === 0) return `there is no GPU to compute on (${info.problem})`;
  const device = info.devices[index];
  if (!device) {
    const list = info.devices.map(({ name }, number) => `${number} (${name})`).join(', ');
    return `there is no GPU ${index}, only ${list}`;
  }
  const problem = whyNotOn(info, device);
  return problem === undefined ? undefined : `${device.name || `GPU ${index}`} cannot be used: ${problem}`;
}

/** The first of these settings that has a value, as a flag. */
function given<Key extends keyof EngineSettings>(
  engine: EngineSettings,
  flags: Readonly<Record<Key, string>>,
): string | undefined {
  const key = (Object.keys(flags) as Key[]).find((name) => engine[name] !== undefined);
  return key && `${flags[key]} ${engine[key]}`;
}

function refused(message: string): EngineError {
  return new EngineError('device_unavailable', message);
}
