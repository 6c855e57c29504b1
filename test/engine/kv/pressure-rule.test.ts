import { describe, expect, it } from 'vitest';
import type { PressureLevel } from '../../../config/kv-pressure.js';
import { byAttention, uniform } from '../../../engine/kv/page-classes.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import { PressureRule } from '../../../engine/kv/pressure-rule.js';

const zip = { high: 'int4', low: 'int2', pick: byAttention(0.9) } as const;
const ladder = new PressureRule([uniform('int8'), zip], 100, 32);
/** Of a sequence that has all packed that shall be. */
const standing = (computedTokens: number, rung: number, squeezedTokens: number, droppedTokens = 0) => ({
  promptTokens: 200,
  computedTokens,
  droppedTokens,
  rung,
  rungTokens: squeezedTokens,
  squeezedTokens,
});
const at = (computedTokens: number, rung: number, squeezedTokens: number) =>
  ladder.next(standing(computedTokens, rung, squeezedTokens));

describe('the ladder of pressure', () => {
  it('takes whole pages behind the recent tokens, and nothing of a prompt that is being read', () => {
    // 100 recent tokens are 4 pages.
    expect(at(300, 0, 0)).toEqual({ rung: 0, end: 160 });
    expect(at(199, 0, 0)).toBeUndefined();
  });

  it('does not convert less than 128 tokens', () => {
    expect(at(255, 0, 0)).toBeUndefined();
    expect(at(256, 0, 0)).toEqual({ rung: 0, end: 128 });
  });

  it('goes down a rung only where nothing is left to take on this one, and ends at the last', () => {
    expect(at(500, 0, 160)).toEqual({ rung: 0, end: 352 });
    expect(at(500, 0, 352)).toEqual({ rung: 1, end: 352 });
    expect(at(600, 0, 352)).toEqual({ rung: 1, end: 448 });
    expect(at(500, 1, 352)).toBeUndefined();
    expect(at(700, 1, 352)).toEqual({ rung: 1, end: 544 });
  });

  it('ends in partitions, where there are some: what is packed beyond them is dropped', () => {
    const sizes = { sinkTokens: 32, recentTokens: 64, midTokens: 256, topPages: 2 };
    const partitions = new PartitionRule(sizes, 32);
    const down = new PressureRule([uniform('int8'), zip], 100, 32, partitions);
    const next = (...where: Parameters<typeof standing>) => down.next(standing(...where));
    expect(next(700, 0, 544)).toEqual({ rung: 1, end: 544 });
    expect(next(700, 1, 544)).toEqual({ rung: 2, end: 288 });
    // What is dropped counts no more.
    expect(next(700, 1, 288, 256)).toBeUndefined();
    expect(next(840, 1, 288, 256)).toEqual({ rung: 1, end: 448 });
    expect(next(840, 1, 448, 256)).toEqual({ rung: 2, end: 288 });
    expect(next(600, 1, 384)).toBeUndefined();
    // What is to be squeezed first is.
    expect(down.next({ ...standing(700, 1, 544), rungTokens: 200 })).toBeUndefined();
  });

  it('goes no further than a sequence allows', () => {
    const sizes = { sinkTokens: 32, recentTokens: 64, midTokens: 256, topPages: 2 };
    const down = new PressureRule([uniform('int8'), zip], 100, 32, new PartitionRule(sizes, 32));
    const next = (most: PressureLevel, ...where: Parameters<typeof standing>) =>
      down.next(standing(...where), most);
    expect(next('off', 700, 0, 0)).toBeUndefined();
    for (const most of ['int8', 'int4'] as const) {
      expect(next(most, 700, 0, 0)).toEqual({ rung: 0, end: 544 });
      expect(next(most, 700, 0, 544)).toBeUndefined();
    }
    expect(next('zip', 700, 0, 544)).toEqual({ rung: 1, end: 544 });
    expect(next('zip', 700, 1, 544)).toBeUndefined();
    expect(next('pack', 700, 1, 544)).toEqual({ rung: 2, end: 288 });
    expect(new PressureRule([uniform('int4')], 100, 32).next(standing(700, 0, 0), 'int8')).toBeUndefined();
  });

  it('says which of its forms attention chooses', () => {
    expect(ladder.chosenForm).toBe(zip);
    expect(new PressureRule([uniform('int8')], 100, 32).chosenForm).toBeUndefined();
  });
});
