import { describe, expect, it } from 'vitest';
import { textBlocks } from '../../../server/web/playground/text-blocks.js';

describe('the blocks of an answer', () => {
  it('parts text and fenced code', () => {
    expect(textBlocks('Look:\n```js\nlet a;\n\nlet b;\n```\nThere.')).toEqual([
      { kind: 'text', text: 'Look:', language: '' },
      { kind: 'code', text: 'let a;\n\nlet b;', language: 'js' },
      { kind: 'text', text: 'There.', language: '' },
    ]);
  });

  it('lets an open fence reach to the end, as it does while it streams', () => {
    expect(textBlocks('```\nhalf').at(-1)).toEqual({ kind: 'code', text: 'half', language: '' });
    expect(textBlocks('```py').at(-1)).toEqual({ kind: 'code', text: '', language: 'py' });
  });

  it('keeps what is no fence', () => {
    expect(textBlocks('a `b` ```c``` d\n<b>')).toEqual([
      { kind: 'text', text: 'a `b` ```c``` d\n<b>', language: '' },
    ]);
    expect(textBlocks('')).toEqual([]);
  });
});
