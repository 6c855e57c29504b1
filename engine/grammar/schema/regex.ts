import { GrammarError } from '../errors.js';
import { plainChars, stringChar } from '../json.js';
import {
  type CharRange,
  chars,
  choice,
  complement,
  intersection,
  joined,
  type Pattern,
  repeat,
  sequence,
  text,
} from '../pattern.js';

/** A pattern of what a JSON string holds becomes one of how it is written: quotes, backslashes and controls as escapes. */
export function stringMatching(expression: string): Pattern {
  return new RegexReader(expression).read();
}

const mostRepeats = 1000;
const digits: CharRange[] = [[0x30, 0x39]];
const word: CharRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const spaces: CharRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const lineEnds: CharRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const classes: Readonly<Record<string, readonly CharRange[]>> = {
  d: digits,
  D: complement(digits),
  w: word,
  W: complement(word),
  s: spaces,
  S: complement(spaces),
};
const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 };
const anything = repeat(stringChar, 0);

/** The regular expressions of ECMAScript, without looking around, references to groups and properties of characters. */
class RegexReader {
  readonly #source: readonly string[];
  #at = 0;

  constructor(private readonly expression: string) {
    try {
      new RegExp(expression, 'u');
    } catch (error) {
      throw new GrammarError((error as Error).message);
    }
    this.#source = Array.from(expression);
  }

  read(): Pattern {
    const options: Pattern[] = [];
    do options.push(this.#anchored());
    while (this.#take('|'));
    if (this.#at < this.#source.length) throw this.#unsupported(`'${this.#source[this.#at]}' here`);
    return choice(options);
  }

  /** An alternative of the whole, which may begin and end anywhere unless it says where. */
  #anchored(): Pattern {
    const begins = this.#take('^');
    const inner = this.#sequence();
    const ends = this.#take('$');
    return sequence(...(begins ? [] : [anything]), inner, ...(ends ? [] : [anything]));
  }

  #choice(): Pattern {
    const options: Pattern[] = [];
    do options.push(this.#sequence());
    while (this.#take('|'));
    return choice(options);
  }

  #sequence(): Pattern {
    const items: Pattern[] = [];
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined || next === '|' || next === ')' || next === '$') return sequence(...items);
      items.push(this.#quantified(this.#atom()));
    }
  }

  #quantified(item: Pattern): Pattern {
    const least = this.#quantifier();
    if (!least) return item;
    this.#take('?'); // lazy or not, the same texts match
    return repeat(item, ...least);
  }

  #quantifier(): [number, number] | undefined {
    if (this.#take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#take('?')) return [0, 1];
    const counts = /^\{(\d+)(,(\d*))?\}/.exec(this.#source.slice(this.#at, this.#at + 24).join(''));
    if (!counts) return undefined;
    this.#at += counts[0].length;
    const least = Number(counts[1]);
    const most =
      counts[2] === undefined ? least : counts[3] === '' ? Number.POSITIVE_INFINITY : Number(counts[3]);
    if (least > mostRepeats || (most !== Number.POSITIVE_INFINITY && most > mostRepeats)) {
      throw new GrammarError(`a pattern may repeat up to ${mostRepeats} times`);
    }
    return [least, most];
  }

  #atom(): Pattern {
    if (this.#take('(')) {
      if (this.#take('?')) {
        if (this.#take('<') && !'=!'.includes(this.#source[this.#at]!)) {
          while (!this.#take('>')) this.#at++;
        } else if (!this.#take(':')) {
          throw this.#unsupported('looking ahead or behind');
        }
      }
      const inner = this.#choice();
      if (!this.#take(')')) throw this.#unsupported('an anchor inside of a group');
      return inner;
    }
    if (this.#take('[')) return written(this.#class());
    if (this.#take('.')) return written(complement(lineEnds));
    if (this.#take('^')) throw this.#unsupported('an anchor that is not at the beginning');
    return written(this.#character());
  }

  #class(): readonly CharRange[] {
    const negated = this.#take('^');
    const ranges: CharRange[] = [];
    while (!this.#take(']')) {
      const from = this.#character(true);
      if (from.length !== 1 || from[0]![0] !== from[0]![1] || !this.#isRange()) {
        ranges.push(...from);
        continue;
      }
      this.#at++;
      const to = this.#character(true);
      ranges.push([from[0]![0], to[0]![1]]);
    }
    return negated ? complement(ranges) : joined(ranges);
  }

  #isRange(): boolean {
    return this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']';
  }

  /** A character, or the class that an escape names. */
  #character(inClass = false): readonly CharRange[] {
    const character = this.#source[this.#at++]!;
    if (character !== '\\') return single(character.codePointAt(0)!);
    const escaped = this.#source[this.#at++]!;
    const named = classes[escaped];
    if (named) return named;
    if (escaped === 'b' && inClass) return single(8);
    const control = controls[escaped];
    if (control !== undefined) return single(control);
    if (escaped === 'x') return single(this.#hex(2));
    if (escaped === 'c') return single(this.#source[this.#at++]!.charCodeAt(0) % 32);
    if (escaped === 'u') return single(this.#unicode());
    if (/[bBpPk1-9]/.test(escaped)) throw this.#unsupported(`'\\${escaped}'`);
    return single(escaped.codePointAt(0)!);
  }

  #unicode(): number {
    if (!this.#take('{')) {
      const high = this.#hex(4);
      const isPair =
        high >= 0xd800 && high < 0xdc00 && this.#source.slice(this.#at, this.#at + 2).join('') === '\\u';
      if (!isPair) return high;
      this.#at += 2;
      return 0x10000 + ((high - 0xd800) << 10) + (this.#hex(4) - 0xdc00);
    }
    const end = this.#source.indexOf('}', this.#at);
    const code = this.#hex(end - this.#at);
    this.#at++;
    return code;
  }

  #hex(length: number): number {
    const code = Number.parseInt(this.#source.slice(this.#at, this.#at + length).join(''), 16);
    this.#at += length;
    return code;
  }

  #take(character: string): boolean {
    if (this.#source[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #unsupported(what: string): GrammarError {
    return new GrammarError(
      `the pattern ${JSON.stringify(this.expression)} has ${what}, which is not supported`,
    );
  }
}

function single(code: number): CharRange[] {
  return [[code, code]];
}

const shortEscapes = new Map([
  [0x08, '\\b'],
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0c, '\\f'],
  [0x0d, '\\r'],
  [0x22, '\\"'],
  [0x5c, '\\\\'],
]);
const escapedCodes = [...Array(0x20).keys(), 0x22, 0x5c];

function written(ranges: readonly CharRange[]): Pattern {
  const plain = intersection(ranges, plainChars);
  const escapes = escapedCodes
    .filter((code) => ranges.some(([from, to]) => from <= code && code <= to))
    .map((code) => text(shortEscapes.get(code) ?? `\\u${code.toString(16).padStart(4, '0')}`));
  return choice([...(plain.length > 0 ? [chars(...plain)] : []), ...escapes]);
}
