import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openTokenizer, type Tokenizer } from '../../../engine/index.js';
import { demoText, readWindows } from '../../../loadtest/quality/held-out-text.js';
import { Folder } from '../../scripts/support.js';
import { demoFolder } from '../../support/demo.js';

const tokenizer = await openTokenizer(demoFolder);

/** The demo model's, with a bos before each text, as Llama's has. */
const withBos: Tokenizer = {
  ...tokenizer,
  encode: (text, options) =>
    Int32Array.from([
      ...(options.addBos ? [0] : []),
      ...tokenizer.encode(text, { ...options, addBos: false }),
    ]),
} as Tokenizer;

describe('windows of a text', () => {
  it('are its beginning, one after another', () => {
    const windows = readWindows(demoText, tokenizer, { tokens: 100, count: 3 });
    const all = tokenizer.encode(readFileSync(demoText, 'utf8'), { special: true, addBos: false });
    expect(windows.map(({ length }) => length)).toEqual([100, 100, 100]);
    expect(windows.flatMap((window) => [...window])).toEqual([...all.subarray(0, 300)]);
  });

  it('each begin with the bos where the tokenizer has one', () => {
    const [first, second] = readWindows(demoText, withBos, { tokens: 50, count: 2 });
    const [plain] = readWindows(demoText, tokenizer, { tokens: 98, count: 1 });
    expect([...first!]).toEqual([0, ...plain!.subarray(0, 49)]);
    expect([...second!]).toEqual([0, ...plain!.subarray(49, 98)]);
  });

  it('are fewer where the text is short; one that has not a single one is refused', () => {
    using folder = new Folder({ 'short.txt': 'The box is red. '.repeat(10), 'empty.txt': '' });
    const short = folder.at('short.txt');
    expect(readWindows(short, tokenizer, { tokens: 20, count: 100 }).length).toBeLessThan(10);
    expect(() => readWindows(short, tokenizer, { tokens: 2000, count: 1 })).toThrow(
      /short\.txt has \d+ tokens, fewer than a window of 2000/,
    );
    expect(() => readWindows(folder.at('empty.txt'), tokenizer, { tokens: 16, count: 1 })).toThrow(
      /has 0 tokens/,
    );
    expect(() => readWindows(folder.path, tokenizer, { tokens: 16, count: 1 })).toThrow(/cannot be read/);
  });
});
