import fc from '../../support/fast-check.js';

/** Text of the kinds that tokenizers trip over: runs of spaces, code, digits, scripts, joined emoji, marks, controls. */
const fragments = fc.constantFrom(
  ' ',
  '  ',
  '\n',
  '\r\n',
  '\t',
  '\u00a0',
  '\u3000',
  '\u2581',
  'Hello',
  ' world',
  "don't",
  "I'LL",
  '1234567',
  '３',
  '½',
  'function(){};',
  '<html>',
  '<0x0A>',
  'e\u0301',
  'Ångström',
  'Привет',
  'こんにちは',
  '中文字符',
  '한국어',
  'שלום',
  'नमस्ते',
  '🙂',
  '👩🏽‍🚀',
  '🇫🇷',
  '\u200d',
  '𝒳',
  '\u0000',
  '\u0007',
  '\ufffd',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
);

// JavaScript's trim and \s differ from Unicode's White_Space in these two, and the library uses both.
const differs = /[\ufeff\u0085]/g;

export const oddText = fc
  .array(
    fc.oneof(
      { weight: 3, arbitrary: fragments },
      fc.string({ unit: 'grapheme', maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
    {
      maxLength: 14,
    },
  )
  .map((parts) => parts.join('').replace(differs, ''));
