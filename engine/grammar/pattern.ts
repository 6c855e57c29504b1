/** Code points from and to, both included. */
export type CharRange = readonly [number, number];

/** What a part of an answer may be. */
export type Pattern =
  | { readonly kind: 'text'; readonly text: string }
  /** One character; the ranges are in order and apart. */
  | { readonly kind: 'chars'; readonly ranges: readonly CharRange[] }
  | { readonly kind: 'sequence'; readonly items: readonly Pattern[] }
  /** Without options: nothing fits. */
  | { readonly kind: 'choice'; readonly options: readonly Pattern[] }
  | { readonly kind: 'repeat'; readonly item: Pattern; readonly least: number; readonly most: number }
  | { readonly kind: 'list'; readonly list: List }
  /** Any bytes in which the text does not occur. */
  | { readonly kind: 'without'; readonly text: string }
  | { readonly kind: 'rule'; readonly name: string };

/** Items with a separator between them; each item's pattern is there once, however many follow it. */
export interface List {
  readonly separator: Pattern;
  /** In this order; those that are not required may be left out: with `gaps` each for itself, else with all behind it. */
  readonly gaps: boolean;
  readonly items: readonly { readonly pattern: Pattern; readonly required: boolean }[];
  /** Further ones behind these. */
  readonly rest?: { readonly pattern: Pattern; readonly least: number; readonly most: number };
  /** At least one in all. */
  readonly filled: boolean;
}

export type Rules = ReadonlyMap<string, Pattern>;

export const empty: Pattern = { kind: 'sequence', items: [] };
export const nothing: Pattern = { kind: 'choice', options: [] };

export function text(value: string): Pattern {
  return { kind: 'text', text: value };
}

export function chars(...ranges: readonly CharRange[]): Pattern {
  return { kind: 'chars', ranges: joined(ranges) };
}

/** One of the characters of a text. */
export function oneOf(characters: string): Pattern {
  return chars(...Array.from(characters, (c): CharRange => [c.codePointAt(0)!, c.codePointAt(0)!]));
}

export function sequence(...items: readonly (Pattern | string)[]): Pattern {
  return { kind: 'sequence', items: items.map((item) => (typeof item === 'string' ? text(item) : item)) };
}

export function choice(options: readonly Pattern[]): Pattern {
  return options.length === 1 ? options[0]! : { kind: 'choice', options };
}

export function repeat(item: Pattern, least: number, most = Number.POSITIVE_INFINITY): Pattern {
  return { kind: 'repeat', item, least, most };
}

export function optional(item: Pattern): Pattern {
  return repeat(item, 0, 1);
}

export function rule(name: string): Pattern {
  return { kind: 'rule', name };
}

const lastCodePoint = 0x10ffff;

/** In order, without overlaps. */
export function joined(ranges: readonly CharRange[]): CharRange[] {
  const result: [number, number][] = [];
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else result.push([from, to]);
  }
  return result;
}

/** All other characters. */
export function complement(ranges: readonly CharRange[]): CharRange[] {
  const result: CharRange[] = [];
  let next = 0;
  for (const [from, to] of joined(ranges)) {
    if (from > next) result.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= lastCodePoint) result.push([next, lastCodePoint]);
  return result;
}

export function intersection(a: readonly CharRange[], b: readonly CharRange[]): CharRange[] {
  return complement([...complement(a), ...complement(b)]);
}
