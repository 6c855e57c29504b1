import type { CharRange } from './pattern.js';

/** Ranges of bytes, one behind another. */
export type ByteSequence = readonly (readonly [number, number])[];

/** The largest code points of one, two, three and four bytes. */
const limits = [0x7f, 0x7ff, 0xffff, 0x10ffff];

/** The UTF-8 of the characters in a range, as few sequences of byte ranges. Surrogates have none. */
export function byteSequences([from, to]: CharRange): ByteSequence[] {
  if (from <= 0xdfff && to >= 0xd800) {
    return [
      ...(from < 0xd800 ? byteSequences([from, 0xd7ff]) : []),
      ...(to > 0xdfff ? byteSequences([0xe000, to]) : []),
    ];
  }
  const limit = limits.find((most) => from <= most)!;
  if (to > limit) return [...byteSequences([from, limit]), ...byteSequences([limit + 1, to])];
  return sameLength(from, to, limits.indexOf(limit) + 1);
}

/** Splits where the last bytes do not take all their values. */
function sameLength(from: number, to: number, length: number): ByteSequence[] {
  for (let tail = 1; tail < length; tail++) {
    const mask = (1 << (6 * tail)) - 1;
    if ((from & ~mask) === (to & ~mask)) continue;
    if ((from & mask) !== 0) {
      return [...sameLength(from, from | mask, length), ...sameLength((from | mask) + 1, to, length)];
    }
    if ((to & mask) !== mask) {
      return [...sameLength(from, (to & ~mask) - 1, length), ...sameLength(to & ~mask, to, length)];
    }
  }
  const low = encoded(from, length);
  const high = encoded(to, length);
  return [low.map((byte, i): [number, number] => [byte, high[i]!])];
}

function encoded(code: number, length: number): number[] {
  if (length === 1) return [code];
  const bytes: number[] = [];
  for (let i = 1; i < length; i++) bytes.unshift(0x80 | ((code >> (6 * (i - 1))) & 0x3f));
  const lead = [0, 0, 0xc0, 0xe0, 0xf0][length]! | (code >> (6 * (length - 1)));
  return [lead, ...bytes];
}
