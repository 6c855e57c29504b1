import { operatorClasses } from '../device/device.js';
import { type DeviceConstants, growth } from './device-constants.js';
import { type ModelWork, weightBytesRead } from './model-work.js';
import type { StepLoad } from './step-load.js';

export interface CostModelOptions {
  /** Whether lanes that run at once slow each other down. Off: the ablation that shows what this is worth. */
  readonly contention?: boolean;
  /** Factors on predicted seconds, as `Correction` learns them: `factorCount` of them, at `factorRow` and `besideRow`. */
  readonly factors?: Float64Array;
}

const classes = operatorClasses.length;
const matmul = 0;
const prefillAttention = 1;
const decodeAttention = 2;
const other = 3;

/** Rows of `CostModelOptions.factors`. */
const prefillLane = 0;
const decodeLane = classes;
export const factorCount = 4 * classes;

/**
 * Seconds of a step from its load and its share of the device (docs/nexus.md, "The cost model"). Per operator class the
 * roofline: the longer of arithmetic and memory, what of the shorter is not hidden, and the launches. While both lanes
 * run, memory is divided between them; how much depends on which class the other lane is likely to be in.
 *
 * Called many times before each step, so a call allocates nothing and takes about a microsecond.
 */
export class CostModel {
  readonly #work: ModelWork;
  readonly #units: number;
  readonly #contention: boolean;
  readonly #factors: Float64Array | null;

  // Constants by operator class.
  readonly #flopsPerSecond = new Float64Array(classes);
  readonly #saturation = new Float64Array(classes);
  readonly #slope = new Float64Array(classes);
  readonly #overhead = new Float64Array(classes);
  readonly #bandwidth = new Float64Array(classes);
  readonly #exposed = new Float64Array(classes);
  readonly #launchSeconds = new Float64Array(classes);
  readonly #barrierSeconds = new Float64Array(classes);
  readonly #exchangeSeconds: number;
  readonly #memory: DeviceConstants['memory'];

  readonly #a = new LaneCost();
  readonly #b = new LaneCost();

  constructor(work: ModelWork, constants: DeviceConstants, units: number, options: CostModelOptions = {}) {
    if (!(units >= 1)) throw new RangeError(`a device of ${units} units: expected 1 or more`);
    this.#work = work;
    this.#units = units;
    this.#contention = options.contention ?? true;
    this.#factors = options.factors ?? null;
    this.#memory = constants.memory;
    this.#exchangeSeconds = constants.team.exchangeSecondsPerByte * work.exchangeBytes;
    for (const [index, name] of operatorClasses.entries()) {
      const operator = constants.operators[name];
      this.#flopsPerSecond[index] = operator.flopsPerSecond;
      this.#saturation[index] = operator.saturation;
      this.#slope[index] = operator.slope;
      this.#overhead[index] = operator.overhead;
      this.#bandwidth[index] = operator.bandwidth;
      this.#exposed[index] = operator.exposed;
      this.#launchSeconds[index] = operator.launchSeconds * work.launches[index]!;
      this.#barrierSeconds[index] = constants.team.barrierSeconds * work.launches[index]!;
    }
  }

  /**
   * Seconds of a step that runs alone on so many units; infinite on none. It may hold prompts and decoding sequences
   * both: weights are then read once for all of them.
   */
  alone(load: StepLoad, units: number): number {
    this.#roofline(load, units, this.#a, 0);
    return this.#total(this.#a, factorRow(load), false);
  }

  /** Seconds of a step of either lane, both lanes busy all the time on their units. */
  together(
    prefill: StepLoad,
    decode: StepLoad,
    prefillUnits: number,
    out: { prefill: number; decode: number },
  ): void {
    const contention = this.#contention;
    this.#roofline(prefill, prefillUnits, this.#a, contention ? kvBytes(decode) : 0);
    this.#roofline(decode, this.#units - prefillUnits, this.#b, contention ? kvBytes(prefill) : 0);
    if (contention) {
      const alone = this.#a.total;
      this.#contend(this.#a, this.#b, this.#b.total);
      this.#contend(this.#b, this.#a, alone);
    }
    out.prefill = this.#total(this.#a, prefillLane, true);
    out.decode = this.#total(this.#b, decodeLane, true);
  }

  /**
   * Seconds by operator class, in the order of `operatorClasses`, into `out`; their sum is returned. `beside` is the
   * other lane's step and its units, where that lane is busy. Without the correction's factors, which are made from this.
   */
  byClass(
    load: StepLoad,
    units: number,
    beside: { readonly load: StepLoad; readonly units: number } | null,
    out: Float64Array,
  ): number {
    const contends = beside !== null && this.#contention;
    this.#roofline(load, units, this.#a, contends ? kvBytes(beside.load) : 0);
    if (contends) {
      this.#roofline(beside.load, beside.units, this.#b, kvBytes(load));
      this.#contend(this.#a, this.#b, this.#b.total);
    }
    out.set(this.#a.seconds);
    return this.#a.total;
  }

  #total(lane: LaneCost, row: number, beside: boolean): number {
    const factors = this.#factors;
    if (factors === null) return lane.total;
    let total = 0;
    for (let index = 0; index < classes; index++) {
      const seconds = lane.seconds[index]! * factors[row + index]!;
      total += beside ? seconds * factors[besideRow(row) + index]! : seconds;
    }
    return total;
  }

  /**
   * Arithmetic, memory and seconds of each class, the step alone on its units. `besideBytes`: KV that the other lane
   * reads through the same cache; the weights are the same.
   */
  #roofline(load: StepLoad, units: number, lane: LaneCost, besideBytes: number): void {
    const work = this.#work;
    const { flops, bytes } = lane;
    const rows = load.prefillTokens + load.decodeSequences;
    // A sequence's overhead is paid in layers only; the head's rows are few and of the same kind.
    flops[matmul] =
      (rows === 0 ? 0 : rows + this.#overhead[matmul]!) * work.layerFlops +
      (load.logitRows === 0 ? 0 : load.logitRows + this.#overhead[matmul]!) * work.headFlops;
    bytes[matmul] = weightBytesRead(load, work);
    flops[prefillAttention] =
      (load.prefillPairs + this.#overhead[prefillAttention]! * load.prefillTokens) * work.pairFlops;
    bytes[prefillAttention] = load.prefillKvBytes;
    flops[decodeAttention] =
      (load.decodeTokens + this.#overhead[decodeAttention]! * load.decodeSequences) * work.pairFlops;
    bytes[decodeAttention] =
      load.decodeTokens === 0
        ? 0
        : load.decodeKvBytes *
          (1 + (this.#overhead[decodeAttention]! * load.decodeSequences) / load.decodeTokens);
    flops[other] = rows * work.rowOperations + load.logitRows * work.logitOperations;
    bytes[other] = rows * work.rowBytes + load.logitRows * work.logitBytes;

    const share = units / this.#units;
    lane.share = share;
    const memory = this.#memory;
    lane.gain = this.#cacheGain(bytes[matmul]! + kvBytes(load) + besideBytes);
    const reach = memory.bytesPerSecond * growth(share, memory.saturation, memory.slope) * lane.gain;
    lane.total = 0;
    for (let index = 0; index < classes; index++) {
      const throughput =
        this.#flopsPerSecond[index]! * growth(share, this.#saturation[index]!, this.#slope[index]!);
      lane.wanted[index] = reach * this.#bandwidth[index]!;
      lane.compute[index] = flops[index] === 0 ? 0 : flops[index]! / throughput;
      lane.fixed[index] = this.#launchSeconds[index]! + (units > 1 ? this.#barrierSeconds[index]! : 0);
      if (index === matmul && units > 1) lane.fixed[index]! += rows * this.#exchangeSeconds * (1 - 1 / units);
      lane.memory[index] = bytes[index] === 0 ? 0 : bytes[index]! / lane.wanted[index]!;
      this.#settle(lane, index, lane.compute[index]!, lane.memory[index]!);
    }
    for (let index = 0; index < classes; index++) {
      const seconds = lane.seconds[index]!;
      lane.demand[index] = seconds === 0 ? 0 : bytes[index]! / seconds;
      lane.aloneSeconds[index] = seconds;
    }
  }

  /**
   * Bandwidth of a step that reads so many bytes over that of memory alone: what the last step read and a cache still
   * holds comes faster. A small model's weights and KV are all of that.
   */
  #cacheGain(bytes: number): number {
    const { cacheBytes, cacheSpeedup } = this.#memory;
    if (cacheBytes === 0) return 1;
    const fullness = bytes / cacheBytes;
    const hit = 1 / (1 + fullness * fullness);
    return 1 / (1 - hit + hit / cacheSpeedup);
  }

  #settle(lane: LaneCost, index: number, compute: number, memory: number): void {
    if (lane.flops[index] === 0) {
      lane.seconds[index] = 0;
      return;
    }
    const longer = Math.max(compute, memory);
    const shorter = Math.min(compute, memory);
    // Without units both are infinite.
    const unhidden = shorter < Number.POSITIVE_INFINITY ? this.#exposed[index]! * shorter : 0;
    const seconds = longer + unhidden + lane.fixed[index]!;
    lane.total += seconds;
    lane.seconds[index] = seconds;
  }

  /**
   * Lets the other lane slow this one down. An operator that asks the memory for more than the other lane leaves gets
   * its part in proportion to what both ask for. The other lane is in each of its classes with the probability of that
   * class's part of its step: the slowdown is the mean over them, not the worst case. Memory's part takes longer, too,
   * beside units that compute: tiles of matmuls come through the same cache and links as what this lane reads.
   */
  #contend(lane: LaneCost, beside: LaneCost, besideTotal: number): void {
    if (!(besideTotal > 0 && besideTotal < Number.POSITIVE_INFINITY)) return;
    // Both lanes read the same bytes through the same cache, so its gain is the same for what they share.
    const available = this.#memory.bytesPerSecond * this.#memory.shared * lane.gain;
    const stretch = 1 + this.#memory.interference;
    const crowding = 1 + this.#memory.crowding * beside.share * busyPart(beside, besideTotal);
    lane.total = 0;
    for (let index = 0; index < classes; index++) {
      let slowdown = 0;
      for (let at = 0; at < classes; at++) {
        const asked = lane.wanted[index]! + beside.demand[at]!;
        const probability = beside.aloneSeconds[at]! / besideTotal;
        slowdown += probability * (asked > available ? asked / available : 1);
      }
      this.#settle(lane, index, lane.compute[index]! * stretch, lane.memory[index]! * slowdown * crowding);
    }
  }
}

/** One lane's figures by operator class. */
class LaneCost {
  readonly flops = new Float64Array(classes);
  readonly bytes = new Float64Array(classes);
  /** Seconds that arithmetic and memory would take alone. */
  readonly compute = new Float64Array(classes);
  readonly memory = new Float64Array(classes);
  /** Launches, and what units pay for working together. */
  readonly fixed = new Float64Array(classes);
  /** Bandwidth the class would use if nothing but memory held it up, and the bandwidth it does use. */
  readonly wanted = new Float64Array(classes);
  readonly demand = new Float64Array(classes);
  readonly aloneSeconds = new Float64Array(classes);
  readonly seconds = new Float64Array(classes);
  /** Of the device's units. */
  share = 0;
  /** Of the cache. */
  gain = 1;
  total = 0;
}

function kvBytes(load: StepLoad): number {
  return load.prefillKvBytes + load.decodeKvBytes;
}

/** Of a lane's time alone, what its units spend on arithmetic. */
function busyPart({ compute }: LaneCost, total: number): number {
  let seconds = 0;
  for (let index = 0; index < classes; index++) seconds += compute[index]!;
  return Math.min(1, seconds / total);
}

/** Where a step's factors begin: one with prompts counts as prefill, whatever else it holds. */
export function factorRow(load: StepLoad): number {
  return load.prefillTokens > 0 ? prefillLane : decodeLane;
}

/**
 * And where those begin that count on top while the other lane is busy. They are apart, so that contention which is not as
 * foreseen does not change what a step would take alone, by which `--decode-slack` is measured.
 */
export function besideRow(row: number): number {
  return 2 * classes + row;
}
