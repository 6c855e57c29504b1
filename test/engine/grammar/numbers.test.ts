import { describe, expect, it } from 'vitest';
import { compileGrammar } from '../../../engine/index.js';
import fc from '../../support/fast-check.js';
import { accepts } from '../../support/table-matcher.js';

const compile = (schema: object) => compileGrammar({ type: 'schema', schema, lenient: false }).tables;
const decimal = fc
  .tuple(fc.integer({ min: -20_000, max: 20_000 }), fc.integer({ min: 0, max: 3 }))
  .map(([n, digits]) => n / 10 ** digits);

function inBounds(value: number, bounds: Record<string, number>): boolean {
  const { minimum = -1e9, maximum = 1e9, exclusiveMinimum = -1e9, exclusiveMaximum = 1e9 } = bounds;
  return value >= minimum && value <= maximum && value > exclusiveMinimum && value < exclusiveMaximum;
}

const boundsOf = (value: fc.Arbitrary<number>) =>
  fc.record(
    { minimum: value, maximum: value, exclusiveMinimum: value, exclusiveMaximum: value },
    { requiredKeys: [] },
  );

describe('bounds of numbers', () => {
  it.each(['integer', 'number'] as const)('let pass what is within, and nothing else: %s', (type) => {
    const value = type === 'integer' ? decimal.map(Math.trunc) : decimal;
    fc.assert(
      fc.property(boundsOf(decimal), fc.array(value, { minLength: 20, maxLength: 20 }), (bounds, values) => {
        let tables: ReturnType<typeof compile> | undefined;
        try {
          tables = compile({ type, ...bounds });
        } catch (error) {
          expect((error as Error).message).toContain('nothing fits');
        }
        const near = Object.values(bounds).flatMap((bound) => [bound, bound + 1, bound - 1, bound / 2]);
        for (const number of [...values, ...near.filter((n) => type === 'number' || Number.isInteger(n))]) {
          const text = String(number);
          // More digits than are written.
          if (/e|\.\d{16}/.test(text)) continue;
          const isAccepted = tables !== undefined && accepts(tables, text);
          expect([text, bounds, isAccepted]).toEqual([text, bounds, inBounds(number, bounds)]);
        }
      }),
      { numRuns: 60, seed: 11 },
    );
  });

  it('hold for digits behind the point that say nothing', () => {
    const tables = compile({ type: 'number', minimum: 1.5, maximum: 2 });
    for (const text of ['1.5', '1.50', '1.500001', '2', '2.0', '2.000'])
      expect([text, accepts(tables, text)]).toEqual([text, true]);
    for (const text of ['1.4999', '2.0001', '1', '1.', '-1.5', '01.5'])
      expect([text, accepts(tables, text)]).toEqual([text, false]);
  });

  it('hold for the doubles that the digits become', () => {
    const exclusive = fc
      .tuple(
        fc.integer({ min: 0, max: 14 }),
        fc.integer({ min: 1, max: 99_999 }),
        fc.integer({ min: 0, max: 3 }),
      )
      .map(([zeros, n, digits]) => Number(`${n}e${zeros - digits}`))
      .filter((bound) => bound < 1e14 && !String(bound).includes('e'));
    fc.assert(
      fc.property(exclusive, fc.integer({ min: 1, max: 15 }), (bound, places) => {
        const [whole, tail = ''] = String(bound).split('.');
        const digits = BigInt(whole! + tail.padEnd(15, '0'));
        const step = 10n ** BigInt(15 - places);
        const written = (n: bigint): string => {
          const text = n.toString().padStart(16, '0');
          return `${text.slice(0, -15)}.${text.slice(-15)}`;
        };
        const [above, below] = [written(digits + step), written(digits - step)];
        const over = compile({ type: 'number', exclusiveMinimum: bound });
        const under = compile({ type: 'number', minimum: -bound, exclusiveMaximum: bound });
        const negative = compile({ type: 'number', exclusiveMinimum: -bound, maximum: bound });
        if (accepts(over, above)) expect([above, Number(above) > bound]).toEqual([above, true]);
        if (accepts(under, below)) expect([below, Number(below) < bound]).toEqual([below, true]);
        if (accepts(negative, `-${below}`)) expect([below, Number(below) < bound]).toEqual([below, true]);
        // As near as the digits of a double allow.
        const near = 15 - (whole === '0' ? 0 : whole!.length);
        if (near < 1 || tail.length > near) return;
        const nearest = String(Number(written(digits + 10n ** BigInt(15 - near))));
        if (!nearest.includes('e')) expect([nearest, accepts(over, nearest)]).toEqual([nearest, true]);
      }),
      { numRuns: 200, seed: 12 },
    );
    for (const [schema, text] of [
      [{ exclusiveMaximum: 100 }, '99.999999999999999'],
      [{ exclusiveMaximum: 100, minimum: 99 }, '99.999999999999999'],
      [{ exclusiveMinimum: 100 }, '100.000000000000001'],
      [{ exclusiveMinimum: 99.5, maximum: 99.75 }, '99.500000000000001'],
      [{ exclusiveMaximum: -16 }, '-16.000000000000001'],
    ] as const) {
      expect([text, accepts(compile({ type: 'number', ...schema }), text)]).toEqual([text, false]);
    }
  });
});
