import { plainChars } from '../json.js';
import {
  type CharRange,
  chars,
  choice,
  complement,
  intersection,
  type Pattern,
  repeat,
  rule,
  sequence,
  text,
} from '../pattern.js';

/** A key that is none of these names. Without escapes, by which a name could be written in another way. */
export function otherKey(names: readonly string[]): Pattern {
  if (names.length === 0) return rule('string');
  return sequence('"', otherThan(names.map((name) => Array.from(name))), '"');
}

const plain = repeat(chars(...plainChars), 0);

/** Texts that leave the names somewhere: by another character, by ending within one, or by going on behind one. */
function otherThan(names: readonly (readonly string[])[]): Pattern {
  const byFirst = new Map<string, (readonly string[])[]>();
  for (const [first, ...rest] of names) {
    if (first !== undefined) byFirst.set(first, [...(byFirst.get(first) ?? []), rest]);
  }
  const firsts = [...byFirst.keys()].map(
    (first): CharRange => [first.codePointAt(0)!, first.codePointAt(0)!],
  );
  const others = intersection(plainChars, complement(firsts));
  return choice([
    ...(names.some((name) => name.length === 0) ? [] : [sequence()]),
    sequence(chars(...others), plain),
    ...[...byFirst]
      // Such a character is not written plainly, so neither is the name.
      .filter(
        ([first]) => intersection(plainChars, [[first.codePointAt(0)!, first.codePointAt(0)!]]).length > 0,
      )
      .map(([first, rest]) => sequence(text(first), otherThan(rest))),
  ]);
}
