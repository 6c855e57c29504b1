import { describe, expect, it } from 'vitest';
import {
  type Candidate,
  findCandidates,
  type Goal,
  gain,
  type PartitionInput,
  type Predictor,
} from '../../../engine/scheduler/partition.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import fc from '../../support/fast-check.js';

/** A device whose lanes are faster the more units they have, decode up to half of them only. */
function device(units: number, contention: number): Predictor {
  const prefillSeconds = (load: StepLoad, given: number) => (load.prefillTokens * 0.001 * units) / given;
  const decodeSeconds = (load: StepLoad, given: number) =>
    load.decodeSequences === 0 ? 0 : 0.02 * Math.max(1, units / (2 * given));
  return {
    alone: (load, given) => prefillSeconds(load, given) + decodeSeconds(load, given),
    together: (prefill, decode, prefillUnits, out) => {
      out.prefill = prefillSeconds(prefill, prefillUnits) * contention;
      out.decode = decodeSeconds(decode, units - prefillUnits) * contention;
    },
  };
}

function prompts(tokens: number): StepLoad {
  const load = new StepLoad();
  load.addChunk(tokens, 0, 1, true);
  return load;
}

function input(goal: Goal, over: Partial<PartitionInput> = {}): PartitionInput {
  const decode = new StepLoad();
  decode.addDecode(100, 1);
  return {
    predictor: device(16, 1),
    units: 16,
    splits: splitsOf(16, 1),
    prefill: prompts,
    maxChunkTokens: 512,
    chunkSeconds: 10,
    decode,
    goal,
    from: undefined,
    ...over,
  };
}

const best = (found: readonly Candidate[]) => found.at(-1)!;

describe('partition', () => {
  it('gives prefill all that decode can spare within its bound', () => {
    const found = findCandidates(input({ favours: 'prefill', maxDecodeSeconds: 0.0201 }));
    // Decode is as fast on half of the device as on all of it.
    expect(best(found)).toMatchObject({ mode: 'split', prefillUnits: 8, isWithin: true });
    const looser = findCandidates(input({ favours: 'prefill', maxDecodeSeconds: 0.0401 }));
    expect(best(looser)).toMatchObject({ mode: 'split', prefillUnits: 12, isWithin: true });
  });

  it('gives decode all that prefill can spare, where decode is favoured', () => {
    const found = findCandidates(input({ favours: 'decode', minPrefillRate: 240 }));
    // 4 of 16 units read 250 tokens a second; decode gains nothing beyond half of the device.
    expect(best(found).isWithin).toBe(true);
    expect(best(found).decodeSeconds).toBeCloseTo(0.02);
  });

  it('finds the same split from wherever it starts, looking at few', () => {
    const goal: Goal = { favours: 'prefill', maxDecodeSeconds: 0.03 };
    for (const from of splitsOf(16, 1)) {
      const found = findCandidates(input(goal, { from }));
      expect(best(found).prefillUnits).toBe(10);
      expect(found.length).toBeLessThanOrEqual(2 + Math.abs(from - 10) + 2);
    }
  });

  it('mixes steps in one lane where lanes at once would slow each other down', () => {
    const goal: Goal = { favours: 'prefill', maxDecodeSeconds: 0.2 };
    const found = findCandidates(input(goal, { predictor: device(16, 3) }));
    expect(best(found)).toMatchObject({ mode: 'mixed', isWithin: true });
    // 20 ms for decode, 1 ms a token: 180 tokens would be just within. The search ends a tenth below, or nearer.
    expect(best(found).chunkTokens).toBeLessThanOrEqual(180);
    expect(best(found).chunkTokens).toBeGreaterThan(180 / 1.1);
  });

  it('has mixed steps alone to offer on a device that cannot be split', () => {
    const found = findCandidates(
      input({ favours: 'prefill', maxDecodeSeconds: 0.1 }, { splits: [], units: 1, predictor: device(1, 1) }),
    );
    expect(found.map(({ mode }) => mode)).toEqual(['mixed']);
  });

  it('gets prompts on where no way keeps the bound', () => {
    const found = findCandidates(input({ favours: 'prefill', maxDecodeSeconds: 0.001 }));
    expect(best(found).isWithin).toBe(false);
    expect(best(found).prefillRate).toBeGreaterThan(0);
  });

  it('keeps chunks short enough that a new prompt soon has its turn', () => {
    const found = findCandidates(
      input({ favours: 'prefill', maxDecodeSeconds: 0.05 }, { chunkSeconds: 0.1 }),
    );
    for (const { mode, prefillSeconds } of found)
      if (mode === 'split') expect(prefillSeconds).toBeLessThanOrEqual(0.1);
  });

  it('lets a chunk take longer where it would waste its read of the weights', () => {
    // 20 ms for the weights, 1 ms a token: 512 tokens reach 962 a second, the 180 that take 200 ms reach 900.
    const predictor: Predictor = {
      alone: (load) => 0.02 + 0.001 * load.prefillTokens,
      together: (prefill, _decode, _units, out) => {
        out.prefill = 0.02 + 0.001 * prefill.prefillTokens;
        out.decode = 0.025;
      },
    };
    const over = { predictor, units: 2, splits: [1], chunkSeconds: 0.2 };
    const found = findCandidates(input({ favours: 'prefill', maxDecodeSeconds: 0.03 }, over));
    const { mode, chunkTokens, prefillRate } = best(found);
    expect(mode).toBe('split');
    expect(prefillRate).toBeGreaterThan(0.98 * 962);
    expect(chunkTokens).toBeLessThan(512);
  });

  it('between a split and a mixed step that are as good for prompts takes what is better for streams', () => {
    // A lane of its own reads 4% fewer tokens a second than the longest mixed chunk within the bound.
    const predictor = (slower: number): Predictor => ({
      alone: (load) => 0.001 * load.prefillTokens,
      together: (prefill, _decode, _units, out) => {
        out.prefill = 0.001 * slower * prefill.prefillTokens;
        out.decode = 0.03;
      },
    });
    const modeWhere = (slower: number) => {
      const over = { predictor: predictor(slower), units: 2, splits: [1] };
      return best(findCandidates(input({ favours: 'prefill', maxDecodeSeconds: 0.1 }, over))).mode;
    };
    expect(modeWhere(1.04)).toBe('split');
    expect(modeWhere(1.2)).toBe('mixed');
  });

  it('chooses among few splits on any device, each leaving both lanes some units', () => {
    for (const [units, smallestGroup] of [
      [1, 1],
      [2, 1],
      [17, 1],
      [64, 1],
      [132, 8],
      [142, 4],
      [7, 8],
    ] as const) {
      const splits = splitsOf(units, smallestGroup);
      expect(splits.length).toBeLessThanOrEqual(17);
      expect(splits.length > 0).toBe(units >= 2 * smallestGroup);
      for (const split of splits) {
        expect(split % smallestGroup).toBe(0);
        expect(units - split).toBeGreaterThanOrEqual(smallestGroup);
      }
    }
  });

  it('is at most a little worse than the best split of a device on which more units are better', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 17 }),
        fc.double({ min: 1, max: 2, noNaN: true }),
        fc.double({ min: 0.01, max: 0.2, noNaN: true }),
        fc.nat(),
        (units, contention, maxDecodeSeconds, start) => {
          const goal: Goal = { favours: 'prefill', maxDecodeSeconds };
          const splits = splitsOf(units, 1);
          const base = input(goal, { predictor: device(units, contention), units, splits });
          const found = best(findCandidates({ ...base, from: splits[start % splits.length] }));
          for (const split of splits) {
            const only = findCandidates({ ...base, splits: [split] });
            // 5% between a split and a mixed step, and what 98% of a long chunk's rate makes of a walk over splits.
            for (const other of only) expect(gain(other, found, goal)).toBeLessThanOrEqual(0.08);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
