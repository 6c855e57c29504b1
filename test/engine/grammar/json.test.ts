import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { compileGrammar } from '../../../engine/index.js';
import { TableMatcher } from '../../support/table-matcher.js';
import { haveSharedData, sharedPath, titled } from '../model/shared-data.js';

const folder = 'json/JSONTestSuite/test_parsing';

describe(titled('JSON objects'), () => {
  const { tables } = compileGrammar({ type: 'json' });
  const accepts = (bytes: Uint8Array): boolean => {
    const matcher = new TableMatcher(tables);
    return bytes.every((byte) => matcher.followByte(byte)) && matcher.ended;
  };

  it.skipIf(!haveSharedData)(
    'are what the JSON test suite says: nothing that is none, and whatever is written plainly',
    () => {
      let good = 0;
      let bad = 0;
      for (const file of readdirSync(sharedPath(folder))) {
        const bytes = readFileSync(sharedPath(`${folder}/${file}`));
        // A hundred thousand open brackets are followed one stack at a time here; they have no end either way.
        if (bytes.length > 10_000) continue;
        if (file.startsWith('n_')) {
          expect([file, accepts(bytes)]).toEqual([file, false]);
          bad++;
        }
        // Written anew, without its space; other values than objects are no answer.
        if (file.startsWith('y_') && bytes.toString().trim().startsWith('{')) {
          const compact = JSON.stringify(JSON.parse(bytes.toString()));
          expect([file, accepts(Buffer.from(compact))]).toEqual([file, true]);
          good++;
        }
      }
      expect(bad).toBeGreaterThan(90);
      expect(good).toBeGreaterThan(5);
    },
  );

  it('never come to a dead end: whatever bytes were chosen, others may follow or the object has ended', () => {
    let state = 12345;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let run = 0; run < 20; run++) {
      const matcher = new TableMatcher(tables);
      for (let length = 0; length < 150; length++) {
        const bytes = matcher.bytes();
        if (bytes.length === 0) break;
        matcher.followByte(bytes[random(bytes.length)]!);
        expect(matcher.ended || matcher.bytes().length > 0).toBe(true);
      }
    }
  });
});
