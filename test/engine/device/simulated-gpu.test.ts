import { describe, expect, it } from 'vitest';
import { gpus } from '../../../engine/device/simulated/gpu.js';
import { simulatedModels } from '../../../engine/device/simulated/model.js';
import { runAlone, runTogether, StepProgress } from '../../../engine/device/simulated/shared-memory.js';
import { SimulatedGpu } from '../../../engine/device/simulated/simulated-gpu.js';
import { demandOf, matmulSeconds, StepDemand } from '../../../engine/device/simulated/step-demand.js';
import { drawTruth, soloBandwidth, type Truth } from '../../../engine/device/simulated/truth.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import { Random } from '../../../loadtest/random.js';
import fc from '../../support/fast-check.js';

const model = simulatedModels['llama-3.1-8b'];
const kvBytes = 131072;

function truthOf(seed: number): Truth {
  return { ...drawTruth(gpus.l20, new Random(seed)), noise: 0, stallShare: 0 };
}

function prefill(tokens: number, context = 0): StepLoad {
  const load = new StepLoad();
  load.addChunk(tokens, context, kvBytes, true);
  return load;
}

function decode(sequences: number, context: number): StepLoad {
  const load = new StepLoad();
  for (let index = 0; index < sequences; index++) load.addDecode(context, kvBytes);
  return load;
}

function progressOf(load: StepLoad, units: number, truth: Truth): StepProgress {
  const demand = new StepDemand();
  demandOf(load, units, model, truth, 1, demand);
  const progress = new StepProgress(demand);
  progress.begin(0);
  return progress;
}

const anyLoad = fc.oneof(
  fc
    .record({ tokens: fc.integer({ min: 1, max: 8192 }), context: fc.integer({ min: 0, max: 30000 }) })
    .map(({ tokens, context }) => prefill(tokens, context)),
  fc
    .record({ sequences: fc.integer({ min: 1, max: 256 }), context: fc.integer({ min: 1, max: 8000 }) })
    .map(({ sequences, context }) => decode(sequences, context)),
);

describe('two steps on one memory', () => {
  it('end no sooner than the longer alone, and no later than one after the other', () => {
    fc.assert(
      fc.property(anyLoad, anyLoad, fc.integer({ min: 1, max: 91 }), fc.nat(20), (a, b, units, seed) => {
        const truth = truthOf(seed);
        const first = progressOf(a, units, truth);
        const second = progressOf(b, 92 - units, truth);
        const [aloneA, aloneB] = [first.secondsAlone(), second.secondsAlone()];
        const beside = runTogether(first, second, truth, Number.POSITIVE_INFINITY);
        const both = beside + Math.max(first.secondsAlone(), second.secondsAlone());
        expect(both).toBeGreaterThanOrEqual(Math.max(aloneA, aloneB) * (1 - 1e-9));
        expect(both).toBeLessThanOrEqual((aloneA + aloneB) * (1 + 1e-9));
      }),
      { numRuns: 200 },
    );
  });

  it('take longer than alone where both wait for memory', () => {
    const truth = truthOf(1);
    const a = progressOf(decode(32, 4000), 46, truth);
    const b = progressOf(decode(32, 4000), 46, truth);
    const alone = a.secondsAlone();
    expect(runTogether(a, b, truth, Number.POSITIVE_INFINITY)).toBeGreaterThan(1.5 * alone);
  });

  it('draw their bytes exactly, whoever is beside them', () => {
    fc.assert(
      fc.property(anyLoad, anyLoad, fc.integer({ min: 1, max: 91 }), (a, b, units) => {
        const truth = truthOf(3);
        const lanes = [progressOf(a, units, truth), progressOf(b, 92 - units, truth)] as const;
        // A step's progress times its demand is what it has drawn; piece by piece this must come to all its bytes.
        const drawn = [0, 0];
        const bytesLeft = ({ demand, round, part, left, isDone }: StepProgress): number => {
          if (isDone) return 0;
          let bytes = left * demand.demand[part]!;
          for (let r = round; r < demand.rounds; r++) {
            for (let p = r === round ? part + 1 : 0; p < demand.parts - 1; p++) {
              bytes += demand.seconds[p]! * demand.demand[p]!;
            }
          }
          if (part < demand.parts - 1) bytes += demand.seconds.at(-1)! * demand.demand.at(-1)!;
          return bytes;
        };
        const whole = lanes.map(bytesLeft);
        while (!lanes[0].isDone && !lanes[1].isDone) {
          const before = lanes.map(bytesLeft);
          const seconds = runTogether(...lanes, truth, 1e-3);
          const moved = lanes.map((lane, index) => before[index]! - bytesLeft(lane));
          expect(moved[0]! + moved[1]!).toBeLessThanOrEqual(truth.bandwidth * seconds * (1 + 1e-6) + 1);
          for (const index of [0, 1]) drawn[index]! += moved[index]!;
        }
        for (const [index, lane] of lanes.entries()) {
          expect(drawn[index]! + bytesLeft(lane)).toBeCloseTo(whole[index]!, -2);
          expect(whole[index]).toBeCloseTo(lane.demand.totalBytes, -3);
        }
      }),
      { numRuns: 20 },
    );
  });

  it('are interrupted without a trace', () => {
    fc.assert(
      fc.property(
        anyLoad,
        anyLoad,
        fc.array(fc.double({ min: 1e-5, max: 0.05, noNaN: true }), { maxLength: 20 }),
        (a, b, stops) => {
          const truth = truthOf(5);
          const whole = runTogether(
            progressOf(a, 50, truth),
            progressOf(b, 42, truth),
            truth,
            Number.POSITIVE_INFINITY,
          );
          const [x, y] = [progressOf(a, 50, truth), progressOf(b, 42, truth)];
          let seconds = 0;
          for (const stop of stops) seconds += runTogether(x, y, truth, stop);
          seconds += runTogether(x, y, truth, Number.POSITIVE_INFINITY);
          expect(seconds).toBeCloseTo(whole, 8);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('leave a lone step as it is, however often it is looked at', () => {
    const truth = truthOf(2);
    const progress = progressOf(prefill(3000), 92, truth);
    const alone = progress.secondsAlone();
    for (let step = 0; step < 10; step++) runAlone(progress, alone / 20);
    expect(progress.secondsAlone()).toBeCloseTo(alone / 2, 9);
  });
});

describe('a step alone', () => {
  const truth = truthOf(1);
  const seconds = (load: StepLoad, units: number) => progressOf(load, units, truth).secondsAlone();

  it('of decode gains little beyond half of the units, of prefill a lot', () => {
    const gainOf = (load: StepLoad) => 1 - seconds(load, 92) / seconds(load, 46);
    expect(gainOf(decode(16, 2000))).toBeLessThan(0.12);
    expect(gainOf(prefill(4096))).toBeGreaterThan(0.35);
  });

  it('reads the weights once, whatever the batch', () => {
    const one = seconds(decode(1, 100), 92);
    expect(one).toBeGreaterThan(15e9 / gpus.l20.bandwidth);
    expect(seconds(decode(8, 100), 92)).toBeLessThan(1.15 * one);
  });

  it('pays for a wave that is not full', () => {
    // 92 units: as many tiles as fill one wave, and one tile more.
    const size = { columns: 128 * 92, inner: 4096 };
    const full = matmulSeconds(256, size, 92, 1e12);
    const more = matmulSeconds(256, { ...size, columns: size.columns + 128 }, 92, 1e12);
    expect(more / full).toBeGreaterThan(1.05);
    expect(full).toBeCloseTo((2 * 256 * size.columns * 4096) / 92e12, 6);
  });

  it('reaches all of the bandwidth with all units, and most with half', () => {
    expect(soloBandwidth(truth, 92)).toBeCloseTo(truth.bandwidth, 0);
    expect(soloBandwidth(truth, 46) / truth.bandwidth).toBeGreaterThan(0.85);
    expect(soloBandwidth(truth, 9) / truth.bandwidth).toBeLessThan(0.6);
  });
});

describe('the simulated GPU', () => {
  it('is another one for each seed, and the same one for the same', () => {
    expect(drawTruth(gpus.h200, new Random(1))).toEqual(drawTruth(gpus.h200, new Random(1)));
    expect(drawTruth(gpus.h200, new Random(1))).not.toEqual(drawTruth(gpus.h200, new Random(2)));
  });

  it('runs a lane beside the other from when it starts until one ends', () => {
    const truth = truthOf(1);
    const gpu = new SimulatedGpu(model, truth, new Random(1));
    expect(gpu.nextEnd()).toBe(Number.POSITIVE_INFINITY);
    gpu.start('prefill', prefill(2048), 60, 0);
    const alone = gpu.nextEnd();
    gpu.start('decode', decode(32, 3000), 32, alone / 2);
    expect(gpu.nextEnd()).toBeLessThan(alone);
    const first = gpu.finishNext();
    expect(first.lane).toBe('decode');
    const second = gpu.finishNext();
    expect(second.lane).toBe('prefill');
    expect(second.seconds).toBeGreaterThan(alone);
    expect(gpu.isBusy('prefill')).toBe(false);
    expect(gpu.nextEnd()).toBe(Number.POSITIVE_INFINITY);
  });

  it('tells seconds by operator class that come to the step, but for the host', () => {
    const truth = truthOf(1);
    const gpu = new SimulatedGpu(model, truth, new Random(1));
    gpu.start('decode', decode(8, 1000), 32, 0);
    gpu.start('prefill', prefill(512), 60, 0);
    for (const { seconds, opSeconds } of [gpu.finishNext(), gpu.finishNext()]) {
      const onDevice = opSeconds.reduce((sum, value) => sum + value, 0);
      expect(seconds - onDevice).toBeGreaterThan(0);
      expect(seconds - onDevice).toBeLessThan(2e-3);
    }
  });

  it('refuses a busy lane, and more units than there are', () => {
    const gpu = new SimulatedGpu(model, truthOf(1), new Random(1));
    gpu.start('prefill', prefill(100), 60, 0);
    expect(() => gpu.start('prefill', prefill(100), 10, 0)).toThrow('the prefill lane is busy');
    expect(() => gpu.start('decode', decode(1, 10), 33, 0)).toThrow('32 are free');
  });

  it('counts a lane that changes its units, and makes it pay', () => {
    const truth = truthOf(1);
    const run = (second: number) => {
      const gpu = new SimulatedGpu(model, truth, new Random(1));
      gpu.start('decode', decode(1, 10), 46, 0);
      gpu.finishNext();
      gpu.start('decode', decode(1, 10), second, 1);
      gpu.finishNext();
      return gpu.totals().repartitions;
    };
    expect(run(46)).toBe(0);
    expect(run(45)).toBe(1);
  });
});
