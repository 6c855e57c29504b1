import { GrammarError } from './errors.js';
import {
  type CharRange,
  chars,
  choice,
  complement,
  type Pattern,
  repeat,
  rule,
  sequence,
  text,
} from './pattern.js';

const mostRepeats = 1000;

/** Reads a grammar as llama.cpp's GBNF and XGrammar's EBNF have it: rules `name ::= …`, of which `root` is the whole. */
export function readGbnf(source: string): Map<string, Pattern> {
  return new GbnfReader(source).read();
}

class GbnfReader {
  readonly #rules = new Map<string, Pattern>();
  #at = 0;

  constructor(private readonly source: string) {}

  read(): Map<string, Pattern> {
    for (this.#space(); this.#at < this.source.length; this.#space()) {
      const name = this.#name();
      if (name === undefined) throw this.#fault('expected the name of a rule');
      this.#space();
      if (!this.#take('::=')) throw this.#fault("expected '::='");
      if (this.#rules.has(name)) throw this.#fault(`rule '${name}' is there twice`);
      this.#rules.set(name, this.#choice());
    }
    const root = this.#rules.get('root');
    if (!root) throw new GrammarError("the grammar has no rule 'root'");
    this.#rules.delete('root');
    return new Map([['root', root], ...this.#rules]);
  }

  #choice(): Pattern {
    const options = [this.#sequence()];
    for (this.#space(); this.#take('|'); this.#space()) options.push(this.#sequence());
    return choice(options);
  }

  #sequence(): Pattern {
    const items: Pattern[] = [];
    for (;;) {
      this.#space();
      const item = this.#item();
      if (!item) return sequence(...items);
      items.push(this.#quantified(item));
    }
  }

  #item(): Pattern | undefined {
    const next = this.source[this.#at];
    if (next === '"') return this.#text();
    if (next === '[') return this.#class();
    if (this.#take('(')) {
      const inner = this.#choice();
      this.#space();
      if (!this.#take(')')) throw this.#fault("expected ')'");
      return inner;
    }
    if (this.#take('.')) return chars([0, 0x10ffff]);
    const begin = this.#at;
    const name = this.#name();
    if (name === undefined) return undefined;
    this.#space();
    if (this.source.startsWith('::=', this.#at)) {
      this.#at = begin; // the next rule
      return undefined;
    }
    return rule(name);
  }

  #quantified(item: Pattern): Pattern {
    if (this.#take('*')) return this.#quantified(repeat(item, 0));
    if (this.#take('+')) return this.#quantified(repeat(item, 1));
    if (this.#take('?')) return this.#quantified(repeat(item, 0, 1));
    const counts = /\{\s*(\d+)\s*(,\s*(\d*)\s*)?\}/y;
    counts.lastIndex = this.#at;
    const found = counts.exec(this.source);
    if (!found) return item;
    this.#at = counts.lastIndex;
    const least = Number(found[1]);
    const most =
      found[2] === undefined ? least : found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3]);
    if (least > mostRepeats || (most !== Number.POSITIVE_INFINITY && most > mostRepeats) || least > most) {
      throw this.#fault(`expected counts up to ${mostRepeats}, the smaller first`);
    }
    return repeat(item, least, most);
  }

  #text(): Pattern {
    let value = '';
    this.#at++;
    while (!this.#take('"')) value += String.fromCodePoint(this.#character());
    return text(value);
  }

  #class(): Pattern {
    this.#at++;
    const negated = this.#take('^');
    const ranges: CharRange[] = [];
    while (!this.#take(']')) {
      const from = this.#character();
      if (this.source[this.#at] === '-' && this.source[this.#at + 1] !== ']') {
        this.#at++;
        const to = this.#character();
        if (to < from) throw this.#fault('a range of characters ends before it begins');
        ranges.push([from, to]);
      } else {
        ranges.push([from, from]);
      }
    }
    return chars(...(negated ? complement(ranges) : ranges));
  }

  #character(): number {
    const code = this.source.codePointAt(this.#at);
    if (code === undefined || code === 0x0a) throw this.#fault('a text or class is not closed');
    this.#at += code > 0xffff ? 2 : 1;
    if (code !== 0x5c) return code;
    const escaped = this.source[this.#at++] ?? '';
    const length = { x: 2, u: 4, U: 8 }[escaped];
    if (length !== undefined) {
      const digits = this.source.slice(this.#at, this.#at + length);
      const value = Number.parseInt(digits, 16);
      if (!/^[0-9a-fA-F]+$/.test(digits) || digits.length < length || value > 0x10ffff) {
        throw this.#fault(`expected ${length} hexadecimal digits behind '\\${escaped}'`);
      }
      this.#at += length;
      return value;
    }
    const named = { n: 10, r: 13, t: 9, '0': 0 }[escaped];
    if (named !== undefined) return named;
    if (escaped === '' || /[a-zA-Z0-9]/.test(escaped)) throw this.#fault(`there is no escape '\\${escaped}'`);
    return escaped.codePointAt(0)!;
  }

  #name(): string | undefined {
    const name = /[A-Za-z_][\w-]*/y;
    name.lastIndex = this.#at;
    const found = name.exec(this.source);
    if (!found) return undefined;
    this.#at = name.lastIndex;
    return found[0];
  }

  /** Space, line ends and comments mean nothing. */
  #space(): void {
    const space = /(?:\s|#[^\n]*)+/y;
    space.lastIndex = this.#at;
    if (space.test(this.source)) this.#at = space.lastIndex;
  }

  #take(token: string): boolean {
    if (!this.source.startsWith(token, this.#at)) return false;
    this.#at += token.length;
    return true;
  }

  #fault(message: string): GrammarError {
    const before = this.source.slice(0, this.#at).split('\n');
    return new GrammarError(`line ${before.length}, column ${before.at(-1)!.length + 1}: ${message}`);
  }
}
