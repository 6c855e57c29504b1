import type { GpuSheet } from './gpu.js';

/** Randomness is passed in, so that a simulation is the same each time. */
export interface RandomSource {
  /** In (0, 1). */
  uniform(): number;
  /** Mean 0, variance 1. */
  normal(): number;
}

/**
 * How one simulated device really behaves. The scheduler never sees these: its cost model has constants of its own and
 * a simpler form, so it must live with being wrong, as on a real device.
 */
export interface Truth {
  readonly units: number;
  /** Of one unit inside a large matmul's tiles. */
  readonly flopsPerUnit: number;
  /** Of the arithmetic of all units at once, what the power limit takes; nothing of it below three fifths of the units. */
  readonly powerLoss: number;
  /** Of all units reading. */
  readonly bandwidth: number;
  /** Share r of the units reaches (1 - e^(-k r)) / (1 - e^(-k)) of the bandwidth; this is k. */
  readonly bandwidthKnee: number;
  /** Of the FLOP/s in matmul tiles, what prefill attention reaches. */
  readonly prefillAttention: number;
  /** Of the FLOP/s in matmul tiles, what decode attention could reach, were it not for its bytes. */
  readonly decodeAttention: number;
  /** Of the bandwidth, what decode attention's scattered pages reach. */
  readonly pagedReads: number;
  /** Times that prefill attention reads its K and V from memory: query tiles share the cache, not wholly. */
  readonly prefillKvReads: number;
  /** Hidden-sized vectors that the small operators of a layer read or write for each row. */
  readonly smallVectors: number;
  /** Of the bandwidth, what is lost while both lanes read: their streams close each other's DRAM rows. */
  readonly mixLoss: number;
  /** How much slower arithmetic gets beside a lane that reads at full bandwidth: they share the L2 cache. */
  readonly cacheLoss: number;
  /** Between two kernels of a step, launched as a graph. */
  readonly kernelGapSeconds: number;
  /** Of the host, for each step: planning, launching, reading the result. */
  readonly hostStepSeconds: number;
  readonly hostSequenceSeconds: number;
  /** A lane's first step on another number of units. */
  readonly repartitionSeconds: number;
  /** Of the logarithm of a step's time. */
  readonly noise: number;
  /** Share of steps that meet a stall of the host, and the shortest of such stalls; their lengths have a heavy tail. */
  readonly stallShare: number;
  readonly stallSeconds: number;
  readonly hostBandwidth: number;
}

/**
 * Nominal shares of the data sheet. Arithmetic 0.8 and bandwidth 0.9: measured on an H200 (790 of 989 TFLOP/s on random
 * data, 4.3 of 4.8 TB/s). The knee gives decode under 3% per tenth of the units beyond half of them (Nexus, section 3).
 */
const nominal = {
  flops: 0.8,
  powerLoss: 0.06,
  bandwidth: 0.9,
  bandwidthKnee: 5,
  prefillAttention: 0.65,
  decodeAttention: 0.2,
  pagedReads: 0.9,
  prefillKvReads: 1.5,
  smallVectors: 16,
  mixLoss: 0.08,
  cacheLoss: 0.1,
  kernelGapSeconds: 1.2e-6,
  hostStepSeconds: 250e-6,
  hostSequenceSeconds: 1.5e-6,
  repartitionSeconds: 60e-6,
  noise: 0.025,
  stallShare: 0.002,
  stallSeconds: 2e-3,
} as const;

/** One device of this kind: each constant off its nominal value by a few percent, another one for each seed. */
export function drawTruth(gpu: GpuSheet, random: RandomSource): Truth {
  const about = (value: number, spread: number) => value * Math.exp(spread * random.normal());
  return {
    units: gpu.units,
    flopsPerUnit: (gpu.flops * Math.min(0.95, about(nominal.flops, 0.05))) / gpu.units,
    powerLoss: about(nominal.powerLoss, 0.3),
    bandwidth: gpu.bandwidth * Math.min(0.97, about(nominal.bandwidth, 0.03)),
    bandwidthKnee: about(nominal.bandwidthKnee, 0.1),
    prefillAttention: about(nominal.prefillAttention, 0.08),
    decodeAttention: about(nominal.decodeAttention, 0.15),
    pagedReads: Math.min(1, about(nominal.pagedReads, 0.05)),
    prefillKvReads: about(nominal.prefillKvReads, 0.15),
    smallVectors: about(nominal.smallVectors, 0.15),
    mixLoss: about(nominal.mixLoss, 0.3),
    cacheLoss: about(nominal.cacheLoss, 0.3),
    kernelGapSeconds: about(nominal.kernelGapSeconds, 0.15),
    hostStepSeconds: about(nominal.hostStepSeconds, 0.15),
    hostSequenceSeconds: about(nominal.hostSequenceSeconds, 0.15),
    repartitionSeconds: about(nominal.repartitionSeconds, 0.2),
    noise: nominal.noise,
    stallShare: nominal.stallShare,
    stallSeconds: nominal.stallSeconds,
    hostBandwidth: about(gpu.hostBandwidth, 0.03),
  };
}

/** FLOP a second of one unit inside matmul tiles, while `units` of them compute. */
export function unitFlops(truth: Truth, units: number): number {
  const crowded = Math.max(0, units / truth.units - 0.6) / 0.4;
  return truth.flopsPerUnit * (1 - truth.powerLoss * crowded);
}

/** Bytes a second that `units` units can draw when nobody else does. */
export function soloBandwidth(truth: Truth, units: number): number {
  const { bandwidthKnee: knee } = truth;
  const reached = (1 - Math.exp((-knee * units) / truth.units)) / (1 - Math.exp(-knee));
  return truth.bandwidth * Math.min(1, reached);
}

/** Extra time of one step, as a factor, and in seconds of the host. */
export function drawNoise(truth: Truth, random: RandomSource): { factor: number; stallSeconds: number } {
  const factor = Math.exp(truth.noise * random.normal());
  // Pareto with exponent 1.5, cut off at a quarter of a second.
  const stalls = random.uniform() < truth.stallShare;
  const stallSeconds = stalls ? Math.min(0.25, truth.stallSeconds * random.uniform() ** (-1 / 1.5)) : 0;
  return { factor, stallSeconds };
}
