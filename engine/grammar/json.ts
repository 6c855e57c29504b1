import {
  chars,
  choice,
  complement,
  type List,
  oneOf,
  type Pattern,
  repeat,
  rule,
  sequence,
  text,
} from './pattern.js';

/** JSON as answers are written: what stands between its tokens is bounded, so that no answer is space without end. */

const hex = chars([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
const digit = chars([0x30, 0x39]);

/** Between tokens. */
export const space = rule('space');

/** Characters that stand in strings as they are. */
export const plainChars = complement([
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0xd800, 0xdfff],
]);

/** Surrogates are not written as escapes: apart they are no text, and in pairs one character would count as two. */
const escaped = sequence(
  '\\',
  choice([
    oneOf('"\\/bfnrt'),
    sequence(
      'u',
      choice([
        sequence(chars([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]), hex),
        sequence(oneOf('dD'), chars([0x30, 0x37])),
      ]),
      hex,
      hex,
    ),
  ]),
);

/** One character of a string, however it is written. */
export const stringChar = choice([chars(...plainChars), escaped]);

const natural = choice([text('0'), sequence(chars([0x31, 0x39]), repeat(digit, 0, 14))]);
const integer = sequence(repeat(text('-'), 0, 1), natural);
const number = sequence(
  integer,
  repeat(sequence('.', repeat(digit, 1, 15)), 0, 1),
  repeat(sequence(oneOf('eE'), repeat(oneOf('+-'), 0, 1), repeat(digit, 1, 2)), 0, 1),
);

export const separator = sequence(',', space);

export function object(members: Omit<List, 'separator'>): Pattern {
  return enclosed('{', members, '}');
}

export function array(items: Omit<List, 'separator'>): Pattern {
  return enclosed('[', items, ']');
}

function enclosed(open: string, items: Omit<List, 'separator'>, close: string): Pattern {
  const isEmpty = items.items.length === 0 && (items.rest?.most ?? 0) === 0;
  if (isEmpty) return sequence(open, space, close);
  return sequence(open, space, { kind: 'list', list: { separator, ...items } }, space, close);
}

export function member(key: Pattern, value: Pattern): Pattern {
  return sequence(key, ':', space, value);
}

const anyMany = (pattern: Pattern): Omit<List, 'separator'> => ({
  gaps: false,
  items: [],
  rest: { pattern, least: 0, most: Number.POSITIVE_INFINITY },
  filled: false,
});

/** The rules that others may call by name. */
export const jsonRules = {
  /** Nothing, a space, or a new line and its indent. */
  space: choice([sequence(), text(' '), sequence('\n', repeat(oneOf(' \t'), 0, 32))]),
  string: sequence('"', repeat(stringChar, 0), '"'),
  integer,
  number,
  object: object(anyMany(member(rule('string'), rule('value')))),
  array: array(anyMany(rule('value'))),
  value: choice([
    rule('string'),
    rule('object'),
    rule('array'),
    rule('number'),
    text('true'),
    text('false'),
    text('null'),
  ]),
} as const satisfies Record<string, Pattern>;
