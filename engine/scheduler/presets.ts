import type { WeightClass } from '../model/weight-bytes.js';
import type { DeviceConstants, OperatorConstants } from './device-constants.js';
import { withUnits } from './device-constants.js';

/**
 * Constants for devices that nobody has calibrated. GPUs: the vendor's data sheet (dense bf16 tensor throughput with
 * float32 sums, memory bandwidth, SMs), times the efficiencies in `gpu` below. They give the right order and the right
 * shape, not the last 20%: `tandem calibrate` does.
 */
interface GpuSheet {
  readonly name: string;
  readonly sms: number;
  readonly bf16Flops: number;
  readonly bytesPerSecond: number;
  /** SMs of the smallest green context: 8 from compute capability 9.0 on, 4 on 8.x (CUDA driver API). */
  readonly smallestGroup: number;
}

const sheets = {
  // NVIDIA H200 data sheet: 989 TFLOPS, 4.8 TB/s. H100 SXM: the same chip with 3.35 TB/s.
  h200: { name: 'NVIDIA H200', sms: 132, bf16Flops: 989e12, bytesPerSecond: 4.8e12, smallestGroup: 8 },
  h100: { name: 'NVIDIA H100', sms: 132, bf16Flops: 989e12, bytesPerSecond: 3.35e12, smallestGroup: 8 },
  // NVIDIA A100 80GB SXM data sheet: 312 TFLOPS, 2039 GB/s.
  a100: { name: 'NVIDIA A100', sms: 108, bf16Flops: 312e12, bytesPerSecond: 2.039e12, smallestGroup: 4 },
  // NVIDIA L40S data sheet: 362 TFLOPS dense, 864 GB/s.
  l40s: { name: 'NVIDIA L40S', sms: 142, bf16Flops: 362e12, bytesPerSecond: 0.864e12, smallestGroup: 4 },
  // Ada white paper, RTX 4090: 165.2 TFLOPS dense with float32 sums, 1008 GB/s.
  rtx4090: { name: 'RTX 4090', sms: 128, bf16Flops: 165.2e12, bytesPerSecond: 1.008e12, smallestGroup: 4 },
  // NVIDIA L20 data sheet: 119.5 TFLOPS, 864 GB/s.
  l20: { name: 'NVIDIA L20', sms: 92, bf16Flops: 119.5e12, bytesPerSecond: 0.864e12, smallestGroup: 4 },
} satisfies Record<string, GpuSheet>;

export type PresetName = keyof typeof sheets | 'cpu';

function gpu(sheet: GpuSheet): DeviceConstants {
  const { name, sms, bf16Flops, bytesPerSecond, smallestGroup } = sheet;
  // 1.5 us from one kernel to the next within a captured graph, ramp up and down included (assumed).
  const launchSeconds = 1.5e-6;
  // Prefill loses 10% of its time from 70 to 80% of the SMs, where 12.5% would be proportional (arXiv 2507.06608).
  const compute = { saturation: 0.7, slope: 0.8, exposed: 0.1, launchSeconds };
  return {
    name,
    units: sms,
    smallestGroup,
    memory: {
      // 790 of 989 TFLOP/s and 4.3 of 4.8 TB/s are what dense matmuls and a copy reach on an H200.
      bytesPerSecond: 0.9 * bytesPerSecond,
      // Decode gains under 3% for each 10% of the SMs beyond half of them (arXiv 2507.06608).
      saturation: 0.5,
      slope: 0.15,
      // Disjoint SMs still cost each other up to 20 to 30% where both read memory; proportional division is most of it.
      shared: 0.95,
      interference: 0.03,
      // No data sheet tells: calibration or the correction learns it.
      crowding: 0,
      // 50 MB of L2 hold no model's weights.
      cacheBytes: 0,
      cacheSpeedup: 1,
    },
    team: { barrierSeconds: 0, exchangeSecondsPerByte: 0 },
    operators: {
      // Tiles of 64 to 128 rows, half of one empty on average.
      matmul: { ...compute, flopsPerSecond: 0.8 * bf16Flops, overhead: 16, bandwidth: 0.95 },
      // 550 of 989 TFLOP/s is good for causal attention of head dimension 128 on Hopper.
      prefillAttention: { ...compute, flopsPerSecond: 0.5 * bf16Flops, overhead: 64, bandwidth: 0.9 },
      // Few query rows a KV head leave most of a tile empty.
      decodeAttention: { ...compute, flopsPerSecond: 0.1 * bf16Flops, overhead: 64, bandwidth: 0.85 },
      // Vector arithmetic, about a sixteenth of the tensor cores', on activations that mostly stay in L2.
      other: { ...compute, flopsPerSecond: bf16Flops / 16, overhead: 0, bandwidth: 1.5 },
    },
  };
}

/**
 * Of one core, in operations a second: matmuls of 4096 inputs on one core of a server processor of 2023 (AMX, AVX-512
 * with VNNI), lower steps by the width of their vectors. bf16 without AMX or BF16 is widened to float32.
 */
const coreFlops: Readonly<Record<string, Readonly<Record<WeightClass, number>>>> = {
  amx: { bf16: 0.8e12, int8: 1.7e12, int4: 1.2e12 },
  avx512: { bf16: 0.3e12, int8: 0.5e12, int4: 0.4e12 },
  'avx512-vnni': { bf16: 0.15e12, int8: 0.5e12, int4: 0.4e12 },
  'avx-vnni': { bf16: 0.09e12, int8: 0.34e12, int4: 0.31e12 },
  avx2: { bf16: 0.09e12, int8: 0.14e12, int4: 0.22e12 },
  portable: { bf16: 0.015e12, int8: 0.02e12, int4: 0.018e12 },
};

/** One core reads 15 to 18 GB/s, two 29; a socket's channels end near the figure of a dozen. */
const coreBytesPerSecond = 14.5e9;
const socketBytesPerSecond = 12 * coreBytesPerSecond;

export function cpuPreset(cores: number, isa: string, weights: WeightClass): DeviceConstants {
  const rates = coreFlops[isa] ?? coreFlops.portable!;
  const memoryCores = Math.min(cores, socketBytesPerSecond / coreBytesPerSecond);
  const operator = (perCore: number, rest: Partial<OperatorConstants>): OperatorConstants => ({
    flopsPerSecond: perCore * cores,
    saturation: 1,
    slope: 1,
    overhead: 0,
    bandwidth: 1,
    exposed: 0.2,
    // Handing out the work, to a team or to oneself.
    launchSeconds: 0.5e-6,
    ...rest,
  });
  return {
    name: `${isa} processor`,
    units: cores,
    smallestGroup: 1,
    memory: {
      bytesPerSecond: coreBytesPerSecond * memoryCores,
      saturation: memoryCores / cores,
      slope: 0.05,
      shared: 1,
      interference: 0.05,
      crowding: 0,
      // What is usual of L3 for a few cores; it is about twice as fast as memory.
      cacheBytes: 16 * 2 ** 20,
      cacheSpeedup: 2,
    },
    // From core to core a cache line takes some 50 to 100 ns, several at once.
    team: { barrierSeconds: 1.5e-6, exchangeSecondsPerByte: 2e-10 },
    operators: {
      matmul: operator(rates[weights], { overhead: 1 }),
      // Attention computes in bf16 whatever the weights are.
      prefillAttention: operator(0.7 * rates.bf16, { overhead: 32 }),
      decodeAttention: operator(0.3 * rates.bf16, { overhead: 32 }),
      other: operator(4e9, { bandwidth: 3 }),
    },
  };
}

/** The preset of that name; `cpu` is one core of the kind that its rates were measured on, with int8 weights. */
export function preset(name: PresetName): DeviceConstants {
  return name === 'cpu' ? cpuPreset(1, 'amx', 'int8') : gpu(sheets[name]);
}

export const presetNames: readonly PresetName[] = [...(Object.keys(sheets) as PresetName[]), 'cpu'];

/** In device names, the more special first. */
const patterns: readonly (readonly [RegExp, keyof typeof sheets])[] = [
  [/H200|GH200/i, 'h200'],
  [/H100|H800/i, 'h100'],
  [/A100|A800/i, 'a100'],
  [/L40/i, 'l40s'],
  [/4090/i, 'rtx4090'],
  [/L20\b/i, 'l20'],
];

export interface PresetQuestion {
  readonly kind: 'cpu' | 'cuda' | 'simulated';
  readonly name: string;
  readonly isa: string;
  readonly units: number;
}

/** The preset that is nearest to a device, scaled to its units. An unknown GPU counts as an A100 of its size. */
export function presetFor(device: PresetQuestion, weights: WeightClass): DeviceConstants {
  if (device.kind === 'cpu') return cpuPreset(device.units, device.isa, weights);
  const name = patterns.find(([pattern]) => pattern.test(device.name))?.[1] ?? 'a100';
  return withUnits(preset(name), device.units);
}
