import type { ModelSpec } from '../../../engine/index.js';
import type { DeviceConstants, OperatorConstants } from '../../../engine/scheduler/device-constants.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import fc from '../../support/fast-check.js';

/** Round numbers, so that a test can say in its head what comes out. */
export const tinySpec: ModelSpec = {
  family: 'llama',
  layers: 2,
  hidden: 128,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  ffn: 256,
  vocab: 1000,
  contextLength: 4096,
  normEps: 1e-5,
  rope: { inverseFrequencies: [], attentionFactor: 1 },
  attentionBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  tiedEmbeddings: true,
  slidingWindow: [0, 0],
};

/** K and V of `tinySpec` in bf16. */
export const kvBytesPerToken = 2 * 2 * 2 * 32 * 2;

/** A device without overheads whose rates grow in proportion to the units. */
export function plainConstants(changes: {
  memory?: Partial<DeviceConstants['memory']>;
  team?: Partial<DeviceConstants['team']>;
  operator?: Partial<OperatorConstants>;
}): DeviceConstants {
  const operator: OperatorConstants = {
    flopsPerSecond: 1e12,
    saturation: 1,
    slope: 1,
    overhead: 0,
    bandwidth: 1,
    exposed: 0,
    launchSeconds: 0,
    ...changes.operator,
  };
  return {
    name: 'plain',
    units: 100,
    smallestGroup: 1,
    memory: {
      bytesPerSecond: 1e11,
      saturation: 1,
      slope: 1,
      shared: 1,
      interference: 0,
      crowding: 0,
      cacheBytes: 0,
      cacheSpeedup: 1,
      ...changes.memory,
    },
    team: { barrierSeconds: 0, exchangeSecondsPerByte: 0, ...changes.team },
    operators: {
      matmul: operator,
      prefillAttention: operator,
      decodeAttention: operator,
      other: operator,
    },
  };
}

export function prefillLoad(tokens: number, context = 0): StepLoad {
  const load = new StepLoad();
  load.addChunk(tokens, context, kvBytesPerToken, true);
  return load;
}

export function decodeLoad(sequences: number, context: number): StepLoad {
  const load = new StepLoad();
  for (let index = 0; index < sequences; index++) load.addDecode(context, kvBytesPerToken);
  return load;
}

const part = fc.double({ min: 0, max: 1, noNaN: true });
const share = fc.double({ min: 0.01, max: 1, noNaN: true });
const between = (least: number, most: number) =>
  fc.double({ min: Math.log(least), max: Math.log(most), noNaN: true }).map(Math.exp);

const anyOperator: fc.Arbitrary<OperatorConstants> = fc.record({
  flopsPerSecond: between(1e8, 1e15),
  saturation: share,
  slope: part,
  overhead: fc.double({ min: 0, max: 200, noNaN: true }),
  bandwidth: between(0.05, 10),
  exposed: part,
  launchSeconds: between(1e-8, 1e-4),
});

export const anyConstants: fc.Arbitrary<DeviceConstants> = fc.record({
  name: fc.constant('any'),
  units: fc.constant(100),
  smallestGroup: fc.constant(1),
  memory: fc.record({
    bytesPerSecond: between(1e9, 5e12),
    saturation: share,
    slope: part,
    shared: between(0.1, 2),
    interference: part,
    crowding: part,
    cacheBytes: fc.oneof(fc.constant(0), between(1e4, 1e9)),
    cacheSpeedup: between(1, 10),
  }),
  team: fc.record({
    barrierSeconds: between(1e-9, 1e-5),
    exchangeSecondsPerByte: between(1e-13, 1e-9),
  }),
  operators: fc.record({
    matmul: anyOperator,
    prefillAttention: anyOperator,
    decodeAttention: anyOperator,
    other: anyOperator,
  }),
});

export const anyPrefill: fc.Arbitrary<StepLoad> = fc
  .tuple(fc.integer({ min: 1, max: 4096 }), fc.integer({ min: 0, max: 100_000 }))
  .map(([tokens, context]) => prefillLoad(tokens, context));

export const anyDecode: fc.Arbitrary<StepLoad> = fc
  .tuple(fc.integer({ min: 1, max: 256 }), fc.integer({ min: 1, max: 100_000 }))
  .map(([sequences, context]) => decodeLoad(sequences, context));
