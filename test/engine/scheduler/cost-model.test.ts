import { describe, expect, it } from 'vitest';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import { type ModelWork, modelWork } from '../../../engine/scheduler/model-work.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import fc from '../../support/fast-check.js';
import {
  anyConstants,
  anyDecode,
  anyPrefill,
  decodeLoad,
  plainConstants,
  prefillLoad,
  tinySpec,
} from './cost-model-case.js';

const units = 100;
const work = modelWork(tinySpec, 'bf16');
/** A model whose operators beside matmuls and attention cost nothing. */
const plainWork: ModelWork = { ...work, rowOperations: 0, rowBytes: 0, logitOperations: 0, logitBytes: 0 };
/** A sum of products in another order. */
const rounding = 1 + 1e-9;

describe('a step alone', () => {
  const arithmetic = plainConstants({ memory: { bytesPerSecond: 1e14 } });
  const memory = plainConstants({ operator: { flopsPerSecond: 1e17 }, memory: { bytesPerSecond: 1e9 } });

  it('takes as long as its arithmetic, where memory is fast', () => {
    const model = new CostModel(plainWork, arithmetic, units);
    // A layer: q, k and v 128 x 256, output 128 x 128, ffn 3 x 128 x 256. The head: 128 x 1000 for one row.
    const layer = 128 * 256 + 128 * 128 + 3 * 128 * 256;
    const pairs = 64 * 10 + (64 * 65) / 2;
    const flops = 64 * 2 * 2 * layer + 2 * 128 * 1000 + pairs * 4 * 2 * 4 * 32;
    expect(model.alone(prefillLoad(64, 10), units)).toBeCloseTo(flops / 1e12, 15);
  });

  it('takes as long as its bytes, where arithmetic is fast', () => {
    const model = new CostModel(plainWork, memory, units);
    const weights = 2 * (2 * (128 * 256 + 128 * 128 + 3 * 128 * 256) + 128 * 1000);
    const kv = 3 * 50 * 512;
    expect(model.alone(decodeLoad(3, 50), units)).toBeCloseTo((weights + kv) / 1e9, 12);
  });

  it('reads the head once for each 32 rows of logits', () => {
    const model = new CostModel(plainWork, memory, units);
    const step = (sequences: number) => model.alone(decodeLoad(sequences, 1), units);
    const head = (2 * 128 * 1000) / 1e9;
    expect(step(33) - step(32)).toBeCloseTo(head + 512 / 1e9, 12);
    expect(step(32) - step(31)).toBeCloseTo(512 / 1e9, 12);
  });

  it('falls as 1 / share up to saturation, and by the slope beyond', () => {
    const constants = plainConstants({
      memory: { bytesPerSecond: 1e14 },
      operator: { saturation: 0.5, slope: 0.2 },
    });
    const model = new CostModel(plainWork, constants, units);
    const load = prefillLoad(256);
    const whole = model.alone(load, 100);
    // Throughput counts 0.25, 0.5 and 0.5 + 0.2 / 2.
    expect(model.alone(load, 25) / whole).toBeCloseTo(0.6 / 0.25, 10);
    expect(model.alone(load, 50) / whole).toBeCloseTo(0.6 / 0.5, 10);
  });

  it('pays for what does not hide behind the longer of arithmetic and memory, and for launches', () => {
    const load = prefillLoad(64);
    const seconds = (exposed: number, launchSeconds: number) =>
      new CostModel(plainWork, plainConstants({ operator: { exposed, launchSeconds } }), units).alone(
        load,
        units,
      );
    const hidden = seconds(0, 0);
    const bytes = work.layerBytes + work.headBytes + load.prefillKvBytes;
    const flops = 64 * work.layerFlops + work.headFlops + load.prefillPairs * work.pairFlops;
    expect(seconds(1, 0)).toBeCloseTo(bytes / 1e11 + flops / 1e12, 12);
    // Matmuls 4 a layer and the head, attention one a layer; the rest has no work here, and so no launches.
    expect(seconds(0, 1e-6) - hidden).toBeCloseTo((4 * 2 + 1 + 2) * 1e-6, 12);
  });

  it('pays for barriers and for activations that change units, as soon as there are two', () => {
    const team = { barrierSeconds: 1e-5, exchangeSecondsPerByte: 1e-9 };
    const paying = new CostModel(plainWork, plainConstants({ team }), units);
    const free = new CostModel(plainWork, plainConstants({}), units);
    const load = prefillLoad(10);
    const extra = (share: number) => paying.alone(load, share) - free.alone(load, share);
    expect(extra(1)).toBeCloseTo(0, 12);
    // A row's inputs of qkv, output, gate and up, down, in float32; one of four units has a quarter of them itself.
    const exchanged = 10 * 2 * 4 * (128 + 128 + 128 + 256);
    expect(extra(4)).toBeCloseTo(11 * 1e-5 + 0.75 * exchanged * 1e-9, 12);
  });

  it('reads faster what a cache still holds', () => {
    const model = (cacheBytes: number) =>
      new CostModel(
        plainWork,
        plainConstants({ memory: { bytesPerSecond: 1e9, cacheBytes, cacheSpeedup: 4 } }),
        units,
      );
    const load = decodeLoad(1, 1);
    expect(model(0).alone(load, units) / model(1e12).alone(load, units)).toBeCloseTo(4, 5);
    expect(model(0).alone(load, units) / model(1).alone(load, units)).toBeCloseTo(1, 5);
  });

  it('never ends without units, and costs nothing without work', () => {
    const model = new CostModel(work, arithmetic, units);
    expect(model.alone(prefillLoad(8), 0)).toBe(Number.POSITIVE_INFINITY);
    expect(model.alone(new StepLoad(), units)).toBe(0);
    expect(() => new CostModel(work, arithmetic, 0)).toThrow('0 units');
  });

  it('takes longer with more tokens, longer contexts and larger KV, and never with more units', () => {
    fc.assert(
      fc.property(
        anyConstants,
        fc.integer({ min: 1, max: 2048 }),
        fc.integer({ min: 0, max: 30_000 }),
        fc.integer({ min: 1, max: 99 }),
        (constants, tokens, context, share) => {
          // What units pay for working together may be more than a further one is worth.
          const team = { barrierSeconds: 0, exchangeSecondsPerByte: 0 };
          const model = new CostModel(work, { ...constants, team }, units);
          const base = model.alone(prefillLoad(tokens, context), share);
          expect(model.alone(prefillLoad(tokens + 64, context), share)).toBeGreaterThan(base);
          expect(model.alone(prefillLoad(tokens, context + 640), share)).toBeGreaterThan(base);
          expect(model.alone(prefillLoad(tokens, context), share + 1)).toBeLessThanOrEqual(base * rounding);
          const decode = model.alone(decodeLoad(8, context + 1), share);
          expect(model.alone(decodeLoad(9, context + 1), share)).toBeGreaterThan(decode);
          const larger = decodeLoad(8, context + 1);
          larger.decodeKvBytes *= 2;
          expect(model.alone(larger, share)).toBeGreaterThanOrEqual(decode / rounding);
        },
      ),
    );
  });

  it('takes no longer for prompts and decoding sequences in one step than for both in turns', () => {
    fc.assert(
      fc.property(anyConstants, anyPrefill, anyDecode, (constants, prefill, decode) => {
        // With a cache two small steps may fit where the large one does not.
        const uncached = { ...constants, memory: { ...constants.memory, cacheBytes: 0 } };
        const model = new CostModel(work, uncached, units);
        const mixed = model.alone(StepLoad.sum(prefill, decode), units);
        const turns = model.alone(prefill, units) + model.alone(decode, units);
        expect(mixed).toBeLessThanOrEqual(turns * rounding);
      }),
    );
  });
});

describe('steps on both lanes', () => {
  const both = (model: CostModel, prefill: StepLoad, decode: StepLoad, prefillUnits: number) => {
    const out = { prefill: 0, decode: 0 };
    model.together(prefill, decode, prefillUnits, out);
    return out;
  };

  it('share the memory in proportion to what they ask for, when both wait for it', () => {
    const constants = plainConstants({
      operator: { flopsPerSecond: 1e18 },
      memory: { saturation: 0.1, slope: 0 },
    });
    const model = new CostModel(plainWork, constants, units);
    const load = decodeLoad(4, 100);
    const { prefill, decode } = both(model, load, load, 50);
    const alone = model.alone(load, 50);
    expect(prefill / alone).toBeCloseTo(2, 3);
    expect(decode / alone).toBeCloseTo(2, 3);
  });

  it('leave each other alone, when one of them waits for arithmetic only', () => {
    const constants = plainConstants({ memory: { saturation: 0.1, slope: 0, bytesPerSecond: 1e12 } });
    const model = new CostModel(plainWork, constants, units);
    const { decode } = both(model, prefillLoad(4096), decodeLoad(1, 10), 50);
    expect(decode / model.alone(decodeLoad(1, 10), 50)).toBeLessThan(1.02);
  });

  it('read more slowly beside arithmetic, by the units that compute', () => {
    const beside = (crowding: number, prefillUnits: number) => {
      const constants = plainConstants({
        memory: { saturation: 0.1, slope: 0, bytesPerSecond: 1e11, shared: 4, crowding },
      });
      const model = new CostModel(plainWork, constants, units);
      return both(model, prefillLoad(4096), decodeLoad(1, 10), prefillUnits);
    };
    for (const prefillUnits of [20, 80]) {
      const without = beside(0, prefillUnits);
      const crowded = beside(0.5, prefillUnits);
      expect(crowded.decode / without.decode).toBeCloseTo(1 + (0.5 * prefillUnits) / units, 3);
      expect(crowded.prefill).toBeCloseTo(without.prefill, 12);
    }
  });

  it('never make each other faster, and do not see each other without the contention term', () => {
    fc.assert(
      fc.property(
        anyConstants,
        anyPrefill,
        anyDecode,
        fc.integer({ min: 1, max: 99 }),
        (constants, prefill, decode, share) => {
          const model = new CostModel(work, constants, units);
          const found = both(model, prefill, decode, share);
          const alone = [model.alone(prefill, share), model.alone(decode, units - share)] as const;
          expect(found.prefill).toBeGreaterThanOrEqual(alone[0] / rounding);
          expect(found.decode).toBeGreaterThanOrEqual(alone[1] / rounding);
          const ablated = both(
            new CostModel(work, constants, units, { contention: false }),
            prefill,
            decode,
            share,
          );
          expect([ablated.prefill, ablated.decode]).toEqual(alone);
        },
      ),
    );
  });

  it('are told by class as they are told in sum', () => {
    fc.assert(
      fc.property(anyConstants, anyPrefill, anyDecode, (constants, prefill, decode) => {
        const model = new CostModel(work, constants, units);
        const classes = new Float64Array(4);
        const found = both(model, prefill, decode, 60);
        const sum = model.byClass(decode, 40, { load: prefill, units: 60 }, classes);
        expect(sum / found.decode).toBeCloseTo(1, 9);
        expect(classes.reduce((a, b) => a + b) / sum).toBeCloseTo(1, 9);
        expect(classes[1]).toBe(0);
      }),
    );
  });

  it('give way at once: a lane without units never ends, and does not disturb the other', () => {
    const model = new CostModel(work, plainConstants({}), units);
    const found = both(model, prefillLoad(64), decodeLoad(2, 10), units);
    expect(found.decode).toBe(Number.POSITIVE_INFINITY);
    expect(found.prefill).toBeCloseTo(model.alone(prefillLoad(64), units), 15);
  });
});

describe('learned factors', () => {
  it('apply by lane and operator class, and those of contention on top', () => {
    const factors = new Float64Array([2, 2, 2, 2, 3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7]);
    const plain = new CostModel(work, plainConstants({}), units);
    const model = new CostModel(work, plainConstants({}), units, { factors });
    expect(model.alone(prefillLoad(64), 50)).toBeCloseTo(2 * plain.alone(prefillLoad(64), 50), 12);
    expect(model.alone(decodeLoad(4, 9), 50)).toBeCloseTo(3 * plain.alone(decodeLoad(4, 9), 50), 12);
    const mixed = StepLoad.sum(prefillLoad(64), decodeLoad(4, 9));
    expect(model.alone(mixed, 50)).toBeCloseTo(2 * plain.alone(mixed, 50), 12);
    const foreseen = { prefill: 0, decode: 0 };
    const learned = { prefill: 0, decode: 0 };
    plain.together(prefillLoad(64), decodeLoad(4, 9), 50, foreseen);
    model.together(prefillLoad(64), decodeLoad(4, 9), 50, learned);
    expect(learned.prefill).toBeCloseTo(10 * foreseen.prefill, 12);
    expect(learned.decode).toBeCloseTo(21 * foreseen.decode, 12);
  });
});
