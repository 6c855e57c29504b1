import type { Effort } from './effort.js';
import { GrammarError } from './errors.js';
import { type List, nothing, type Pattern } from './pattern.js';
import { type ByteSequence, byteSequences } from './utf8.js';

export interface ByteEdge {
  readonly from: number;
  readonly to: number;
  readonly target: number;
}

export interface CallEdge {
  readonly rule: string;
  readonly target: number;
}

export interface NfaState {
  readonly bytes: readonly ByteEdge[];
  readonly free: readonly number[];
  readonly calls: readonly CallEdge[];
}

type Repeat = Extract<Pattern, { kind: 'repeat' }>;

/** Where up to so many of an item begin, and where any number of them does. */
interface Repeats {
  readonly upTo: number[];
  any: number | undefined;
}

/** Beyond it a grammar is refused: a schema of usual size has some thousands. */
const mostNfaStates = 400_000;

const none: readonly never[] = [];

/**
 * A rule's pattern as an automaton that may go several ways at once. It is built from its end, so that what goes on alike is
 * there once: of numbers up to some length those digits that may still come, however many there were.
 */
export class Nfa {
  readonly states: NfaState[] = [];
  readonly start: number;
  readonly end: number;
  /** By item, and by where it goes on behind them. */
  readonly #repeats = new Map<Pattern, Map<number, Repeats>>();
  readonly #sequences = new Map<Pattern, readonly ByteSequence[]>();

  constructor(
    pattern: Pattern,
    private readonly effort: Effort,
  ) {
    this.end = this.#add({});
    this.start = this.#build(pattern, this.end);
  }

  #add({ bytes = none, free = none, calls = none }: Partial<NfaState>): number {
    if (this.states.length >= mostNfaStates) {
      throw new GrammarError(
        'the grammar is too large: reduce its limits of lengths and counts, or its choices',
      );
    }
    this.effort.spend(1);
    this.states.push({ bytes, free, calls });
    return this.states.length - 1;
  }

  /** A state that may be any of several. */
  #any(states: readonly number[]): number {
    return this.#add({ free: states });
  }

  /** Closes a loop: what is built from the end leads to a state that was added before. */
  #fill(state: number, free: readonly number[]): void {
    this.states[state] = { ...this.states[state]!, free };
  }

  #byte(from: number, to: number, target: number): number {
    return this.#add({ bytes: [{ from, to, target }] });
  }

  /** Where a pattern begins that goes on at `next`. */
  #build(pattern: Pattern, next: number): number {
    switch (pattern.kind) {
      case 'text':
        return Buffer.from(pattern.text).reduceRight((target, byte) => this.#byte(byte, byte, target), next);
      case 'chars':
        return this.#chars(pattern, next);
      case 'sequence':
        return pattern.items.reduceRight((target, item) => this.#build(item, target), next);
      case 'choice':
        return this.#any(pattern.options.map((option) => this.#build(option, next)));
      case 'repeat':
        return this.#repeat(pattern, next);
      case 'list':
        return this.#list(pattern.list, next);
      case 'without':
        return this.#without(Buffer.from(pattern.text), next);
      case 'rule':
        return this.#add({ calls: [{ rule: pattern.name, target: next }] });
    }
  }

  #chars(pattern: Extract<Pattern, { kind: 'chars' }>, next: number): number {
    let sequences = this.#sequences.get(pattern);
    if (!sequences) {
      sequences = pattern.ranges.flatMap(byteSequences);
      this.#sequences.set(pattern, sequences);
    }
    // Of each number of bytes that may be any that continue a character there is one way to the end.
    const tails = [next];
    const bytes = sequences.map((sequence): ByteEdge => {
      const free = trailing(sequence);
      while (tails.length <= free) tails.push(this.#byte(0x80, 0xbf, tails.at(-1)!));
      let target = tails[free]!;
      for (let i = sequence.length - free - 1; i > 0; i--) target = this.#byte(...sequence[i]!, target);
      const [from, to] = sequence[0]!;
      return { from, to, target };
    });
    return this.#add({ bytes });
  }

  #repeat({ item, least, most }: Repeat, next: number): number {
    let begin: number;
    const known = this.#repeatsOf(item, next);
    if (most === Number.POSITIVE_INFINITY) {
      if (known.any === undefined) {
        known.any = this.#add({});
        this.#fill(known.any, [next, this.#build(item, known.any)]);
      }
      begin = known.any;
    } else {
      const { upTo } = known;
      while (upTo.length <= most - least) upTo.push(this.#any([next, this.#build(item, upTo.at(-1)!)]));
      begin = upTo[Math.max(0, most - least)]!;
    }
    for (let i = 0; i < least; i++) begin = this.#build(item, begin);
    return begin;
  }

  #repeatsOf(item: Pattern, next: number): Repeats {
    const ofItem = this.#repeats.get(item) ?? new Map<number, Repeats>();
    this.#repeats.set(item, ofItem);
    const known = ofItem.get(next) ?? { upTo: [next], any: undefined };
    ofItem.set(next, known);
    return known;
  }

  /** Two ways side by side: where nothing has been written yet, and where a separator comes before the next item. */
  #list({ separator, gaps, items, rest, filled }: List, next: number): number {
    const { pattern, least, most } = rest ?? { pattern: nothing, least: 0, most: 0 };
    const mayEnd = filled ? none : [next];
    // Where an item has been written, and where none has.
    let [later, first] = [next, this.#any(mayEnd)];
    const before = (item: Pattern, elseLater: readonly number[], elseFirst: readonly number[]): void => {
      const begin = this.#build(item, later);
      later = this.#any([...elseLater, this.#build(separator, begin)]);
      first = this.#any([...elseFirst, begin]);
    };
    if (most === Number.POSITIVE_INFINITY) {
      later = this.#add({});
      const begin = this.#build(pattern, later);
      this.#fill(later, [next, this.#build(separator, begin)]);
      first = this.#any([...mayEnd, begin]);
    } else {
      for (let i = least; i < most; i++) before(pattern, [next], mayEnd);
    }
    for (let i = 0; i < least; i++) before(pattern, none, none);
    for (const { pattern: item, required } of items.toReversed()) {
      if (required) before(item, none, none);
      else if (gaps) before(item, [later], [first]);
      else before(item, [next], mayEnd);
    }
    return first;
  }

  /** Knuth, Morris and Pratt: a state for each length of the text that the bytes so far may have begun. */
  #without(needle: Uint8Array, next: number): number {
    const states = Array.from(needle, () => this.#add({}));
    const fallback = [0];
    for (let i = 1, k = 0; i < needle.length; i++) {
      while (k > 0 && needle[i] !== needle[k]) k = fallback[k - 1]!;
      if (needle[i] === needle[k]) k++;
      fallback.push(k);
    }
    states.forEach((state, matched) => {
      const bytes: ByteEdge[] = [];
      for (let byte = 0; byte < 256; byte++) {
        let k = matched;
        while (k > 0 && needle[k] !== byte) k = fallback[k - 1]!;
        if (needle[k] === byte) k++;
        if (k < needle.length) bytes.push({ from: byte, to: byte, target: states[k]! });
      }
      this.states[state] = { bytes, free: [next], calls: none };
    });
    return states[0]!;
  }
}

/** How many bytes at the end may be any that continue a character; the first never is. */
function trailing(bytes: ByteSequence): number {
  let count = 0;
  while (count < bytes.length - 1 && isAny(bytes[bytes.length - 1 - count]!)) count++;
  return count;
}

function isAny([from, to]: readonly [number, number]): boolean {
  return from === 0x80 && to === 0xbf;
}
