import { describe, expect, it } from 'vitest';
import { byAttention, uniform } from '../../../engine/kv/page-classes.js';
import { PressureRule } from '../../../engine/kv/pressure-rule.js';

const zip = { high: 'int4', low: 'int2', pick: byAttention(0.9) } as const;
const ladder = new PressureRule([uniform('int8'), zip], 100, 32);
const at = (computedTokens: number, rung: number, squeezedTokens: number, promptTokens = 200) =>
  ladder.next({ promptTokens, computedTokens, rung, squeezedTokens });

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

  it('says which of its forms attention chooses', () => {
    expect(ladder.chosenForm).toBe(zip);
    expect(new PressureRule([uniform('int8')], 100, 32).chosenForm).toBeUndefined();
  });
});
