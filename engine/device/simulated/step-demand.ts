import type { StepLoad } from '../../scheduler/step-load.js';
import type { OperatorClass } from '../device.js';
import { layerMatmuls, type MatmulSize, type SimulatedModel } from './model.js';
import { soloBandwidth, type Truth, unitFlops } from './truth.js';

/**
 * What a layer does one after another (matmuls, attention of prompts, attention of decoding sequences, small operators,
 * gaps between kernels), and the head after the last layer: each as the class that it counts to.
 */
export const classOfPart: readonly OperatorClass[] = [
  'matmul',
  'prefillAttention',
  'decodeAttention',
  'other',
  'other',
  'matmul',
];
const parts = classOfPart.length;
const head = parts - 1;

/** Kernels of a layer: norms, rotation, cache update, attention, matmuls, activation. */
const kernelsPerLayer = 9;
/** Sampling reads the logits a few times, in fp32. */
const logitReads = 6;
/** Rounds are about this long: neighbouring layers are taken together where they are shorter. */
const roundSeconds = 3e-3;

/** Matmul tiles, and the share of a unit's arithmetic each reaches; small ones spend more on loading. */
const tiles = [
  { rows: 256, columns: 128, reach: 1 },
  { rows: 128, columns: 128, reach: 0.95 },
  { rows: 64, columns: 128, reach: 0.85 },
  { rows: 64, columns: 64, reach: 0.65 },
  { rows: 32, columns: 128, reach: 0.65 },
  { rows: 16, columns: 128, reach: 0.4 },
] as const;
/** A matmul whose tiles fill the last wave badly is cut along its inner size too, for the price of a sum. */
const splits = [1, 2, 4, 8] as const;
const splitReach = 0.9;

const attentionRows = 128;

/**
 * What one step asks of the device while it runs alone on its units: for each part the seconds, the bytes a second it
 * draws meanwhile, and how much of its time arithmetic takes. The parts repeat in `rounds` rounds (layers, or groups
 * of them) and the head ends the step.
 */
export class StepDemand {
  rounds = 1;
  /** Seconds of each part in one round; of the head, once. */
  readonly seconds = new Float64Array(parts);
  /** Bytes a second. */
  readonly demand = new Float64Array(parts);
  /** Seconds of arithmetic, or of waiting, per second of the part: not shortened by bandwidth. */
  readonly compute = new Float64Array(parts);
  /** Most the lane can draw. */
  soloBandwidth = 0;
  /** All parts of all rounds. */
  totalSeconds = 0;
  totalBytes = 0;

  get parts(): number {
    return parts;
  }
}

/** Fills `into` with what `load` asks on `units` units; `factor` is this step's noise. */
export function demandOf(
  load: StepLoad,
  units: number,
  model: SimulatedModel,
  truth: Truth,
  factor: number,
  into: StepDemand,
): void {
  const { layers, hidden, heads, headDim } = model;
  const perUnit = unitFlops(truth, units);
  const flops = perUnit * units;
  const solo = soloBandwidth(truth, units);
  into.soloBandwidth = solo;
  into.totalBytes = 0;
  const set = (part: number, compute: number, bytes: number, reach: number, times: number) => {
    const memory = bytes / (solo * reach);
    const seconds = Math.max(compute, memory) * factor;
    into.seconds[part] = seconds;
    into.demand[part] = seconds > 0 ? bytes / seconds : 0;
    into.compute[part] = seconds > 0 ? (compute * factor) / seconds : 0;
    into.totalBytes += bytes * times;
    return seconds * times;
  };

  const { rows } = load;
  let compute = 0;
  let bytes = 0;
  for (const matmul of layerMatmuls(model)) {
    compute += matmulSeconds(rows, matmul, units, perUnit);
    bytes += matmulBytes(rows, matmul, model.bytesPerWeight);
  }
  let total = set(0, compute, bytes, 1, layers);

  // Query and key, weights and value: four FLOP a pair and channel.
  const pairFlops = 4 * heads * headDim;
  const prefillBlocks = Math.ceil(load.prefillTokens / attentionRows) * heads;
  const waves = prefillBlocks === 0 ? 0 : Math.ceil(prefillBlocks / units) / (prefillBlocks / units);
  const rowBytes = 4 * heads * headDim;
  total += set(
    1,
    ((load.prefillPairs * pairFlops) / (flops * truth.prefillAttention)) * waves,
    (load.prefillKvBytes * truth.prefillKvReads) / layers + load.prefillTokens * rowBytes,
    1,
    layers,
  );
  total += set(
    2,
    (load.decodeTokens * pairFlops) / (flops * truth.decodeAttention),
    load.decodeKvBytes / layers + load.decodeSequences * rowBytes,
    truth.pagedReads,
    layers,
  );
  total += set(3, 0, rows * hidden * 2 * truth.smallVectors, 1, layers);
  total += set(4, kernelsPerLayer * truth.kernelGapSeconds, 0, 1, layers);
  total += set(
    head,
    load.logitRows === 0
      ? 0
      : matmulSeconds(load.logitRows, headMatmul(model), units, perUnit) + truth.kernelGapSeconds,
    load.logitRows === 0
      ? 0
      : matmulBytes(load.logitRows, headMatmul(model), model.bytesPerWeight) +
          load.logitRows * model.vocab * 4 * logitReads,
    1,
    1,
  );
  into.totalSeconds = total;
  into.rounds = Math.min(layers, Math.max(1, Math.ceil(total / roundSeconds)));
  const layersPerRound = layers / into.rounds;
  for (let part = 0; part < head; part++) into.seconds[part]! *= layersPerRound;
}

function headMatmul({ vocab, hidden }: SimulatedModel): MatmulSize {
  return { columns: vocab, inner: hidden };
}

/** Arithmetic alone: whole waves of tiles over the units, with the tiles that suit best. */
export function matmulSeconds(
  rows: number,
  { columns, inner }: MatmulSize,
  units: number,
  flopsPerUnit: number,
): number {
  if (rows === 0) return 0;
  let best = Number.POSITIVE_INFINITY;
  for (const tile of tiles) {
    const count = Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
    const tileSeconds = (2 * tile.rows * tile.columns * inner) / (flopsPerUnit * tile.reach);
    for (const split of splits) {
      const waves = Math.ceil((count * split) / units) / split;
      best = Math.min(best, (waves * tileSeconds) / (split > 1 ? splitReach : 1));
    }
  }
  return best;
}

function matmulBytes(rows: number, { columns, inner }: MatmulSize, bytesPerWeight: number): number {
  return rows === 0 ? 0 : columns * inner * bytesPerWeight + rows * (columns + inner) * 2;
}
