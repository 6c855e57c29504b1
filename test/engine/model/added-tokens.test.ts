import { describe, expect, it } from 'vitest';
import { AddedTokenFinder } from '../../../engine/model/added-tokens.js';

const token = (content: string, flags: object = {}) => ({
  id: content.length,
  content,
  special: true,
  lstrip: false,
  rstrip: false,
  singleWord: false,
  normalized: false,
  ...flags,
});

/** Tokens in angle brackets, texts in quotes. */
function split(tokens: ReturnType<typeof token>[], text: string): string[] {
  const out: string[] = [];
  new AddedTokenFinder(tokens, (added) => added.content).split(
    text,
    (piece, begin) => {
      expect(text.slice(begin, begin + piece.length)).toBe(piece);
      out.push(`"${piece}"`);
    },
    (added) => out.push(`<${added.content}>`),
  );
  return out;
}

describe('added tokens', () => {
  it('are found between texts, without empty ones', () => {
    expect(split([token('[A]')], '[A]x[A][A]y')).toEqual(['<[A]>', '"x"', '<[A]>', '<[A]>', '"y"']);
    expect(split([token('[A]')], '')).toEqual([]);
    expect(split([], 'text')).toEqual(['"text"']);
  });

  it('are the leftmost, of those the longest', () => {
    expect(split([token('ab'), token('abc'), token('bcd')], 'xabcd')).toEqual(['"x"', '<abc>', '"d"']);
  });

  it('are taken literally', () => {
    expect(split([token('a.c'), token('$|^')], 'abc a.c $|^')).toEqual(['"abc "', '<a.c>', '" "', '<$|^>']);
  });

  it('take the space beside them where they say so', () => {
    expect(split([token('T', { lstrip: true })], 'a \n T b')).toEqual(['"a"', '<T>', '" b"']);
    expect(split([token('T', { rstrip: true })], 'a T \n b')).toEqual(['"a "', '<T>', '"b"']);
    expect(split([token('T', { lstrip: true, rstrip: true })], 'T  T  ')).toEqual(['<T>', '<T>']);
  });

  it('stand alone where they say so', () => {
    const word = [token('ok', { singleWord: true })];
    expect(split(word, 'ok book ok! oké 𝒳ok ok')).toEqual([
      '<ok>',
      '" book "',
      '<ok>',
      '"! oké 𝒳ok "',
      '<ok>',
    ]);
  });
});
