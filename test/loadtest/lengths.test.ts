import { describe, expect, it } from 'vitest';
import { Random } from '../../loadtest/random.js';
import { parseLengths } from '../../loadtest/serve/lengths.js';

function draw(text: string, count = 20_000): number[] {
  const random = new Random(3);
  const length = parseLengths(text);
  return Array.from({ length: count }, () => length(random));
}

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('lengths', () => {
  it('are always the same where one is given', () => {
    expect(new Set(draw('512', 100))).toEqual(new Set([512]));
  });

  it('are uniform between two, both included', () => {
    const values = draw('3-7');
    for (const value of [3, 4, 5, 6, 7]) {
      // A fifth; the standard error of the share is 0.003.
      const share = values.filter((other) => other === value).length / values.length;
      expect(Math.abs(share - 0.2)).toBeLessThan(0.015);
    }
    expect(values.every((value) => value >= 3 && value <= 7)).toBe(true);
  });

  it('are exponential around a mean, and never 0', () => {
    const values = draw('exp:100');
    expect(Math.abs(meanOf(values) / 100 - 1)).toBeLessThan(0.04);
    // An exponential distribution is above its mean with probability 1/e.
    const above = values.filter((value) => value > 100).length / values.length;
    expect(Math.abs(above - Math.exp(-1))).toBeLessThan(0.02);
    expect(Math.min(...draw('exp:1'))).toBe(1);
  });

  it.each(['', '0', '-3', '1.5', '7-3', '0-4', 'exp:0', 'exp:', 'normal:5', '12 '])('refuses %j', (text) => {
    expect(() => parseLengths(text)).toThrow(`"${text}" is no length: expected 512, 128-1024 or exp:512`);
  });
});
