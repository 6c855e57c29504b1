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
  readonly bytes: ByteEdge[];
  readonly free: number[];
  readonly calls: CallEdge[];
}

/** Beyond it a grammar is refused: a schema of usual size has some thousands. */
export const mostNfaStates = 400_000;

/** A rule's pattern as an automaton that may go several ways at once. */
export class Nfa {
  readonly states: NfaState[] = [];
  readonly start: number;
  readonly end: number;

  constructor(pattern: Pattern) {
    this.start = this.#add();
    this.end = this.#build(pattern, this.start);
  }

  #add(): number {
    if (this.states.length >= mostNfaStates) {
      throw new GrammarError(
        'the grammar is too large: reduce its limits of lengths and counts, or its choices',
      );
    }
    this.states.push({ bytes: [], free: [], calls: [] });
    return this.states.length - 1;
  }

  #free(from: number, to: number): void {
    this.states[from]!.free.push(to);
  }

  #byte(at: number, from: number, to: number): number {
    const target = this.#add();
    this.states[at]!.bytes.push({ from, to, target });
    return target;
  }

  /** Where a pattern that begins at `at` ends. */
  #build(pattern: Pattern, at: number): number {
    switch (pattern.kind) {
      case 'text': {
        let end = at;
        for (const byte of Buffer.from(pattern.text)) end = this.#byte(end, byte, byte);
        return end;
      }
      case 'chars': {
        // Of each number of bytes that may be any that continue a character there is one way to the end.
        const tails = [this.#add()];
        for (const bytes of pattern.ranges.flatMap(byteSequences)) {
          const free = trailing(bytes);
          for (; tails.length <= free; tails.push(this.states.length - 1)) {
            this.states[this.#add()]!.bytes.push({ from: 0x80, to: 0xbf, target: tails.at(-1)! });
          }
          const own = bytes.slice(0, bytes.length - free);
          let last = at;
          for (const [from, to] of own.slice(0, -1)) last = this.#byte(last, from, to);
          const [from, to] = own.at(-1)!;
          this.states[last]!.bytes.push({ from, to, target: tails[free]! });
        }
        return tails[0]!;
      }
      case 'sequence':
        return pattern.items.reduce((end, item) => this.#build(item, end), at);
      case 'choice': {
        const end = this.#add();
        for (const option of pattern.options) this.#free(this.#build(option, this.#branch(at)), end);
        return end;
      }
      case 'repeat':
        return this.#repeat(pattern, at);
      case 'list':
        return this.#list(pattern.list, at);
      case 'without':
        return this.#without(Buffer.from(pattern.text), at);
      case 'rule': {
        const target = this.#add();
        this.states[at]!.calls.push({ rule: pattern.name, target });
        return target;
      }
    }
  }

  /** A state of its own, so that what loops back to it does not loop to `at`. */
  #branch(at: number): number {
    const state = this.#add();
    this.#free(at, state);
    return state;
  }

  #repeat({ item, least, most }: Extract<Pattern, { kind: 'repeat' }>, at: number): number {
    let last = at;
    for (let i = 0; i < least; i++) last = this.#build(item, last);
    if (most === Number.POSITIVE_INFINITY) {
      const loop = this.#branch(last);
      this.#free(this.#build(item, loop), loop);
      return this.#branch(loop);
    }
    const end = this.#add();
    this.#free(last, end);
    for (let i = least; i < most; i++) {
      last = this.#build(item, this.#branch(last));
      this.#free(last, end);
    }
    return end;
  }

  /** Two ways side by side: where nothing has been written yet, and where a separator comes before the next item. */
  #list({ separator, gaps, items, rest, filled }: List, at: number): number {
    const end = this.#add();
    let first: number | undefined = this.#branch(at);
    let later = this.#add();
    const mayEnd = (): void => {
      this.#free(later, end);
      if (first !== undefined && !filled) this.#free(first, end);
    };
    const item = (pattern: Pattern): number => {
      const begin = this.#add();
      if (first !== undefined) this.#free(first, begin);
      this.#free(this.#build(separator, this.#branch(later)), begin);
      return this.#build(pattern, begin);
    };
    for (const { pattern, required } of items) {
      if (!required && !gaps) mayEnd();
      const behind = item(pattern);
      if (required || !gaps) {
        first = undefined;
        later = behind;
      } else {
        const next = this.#add();
        this.#free(later, next);
        this.#free(behind, next);
        later = next;
      }
    }
    const { pattern, least, most } = rest ?? { pattern: nothing, least: 0, most: 0 };
    const further = (): void => {
      later = item(pattern);
      first = undefined;
    };
    for (let i = 0; i < least; i++) further();
    mayEnd();
    if (most === Number.POSITIVE_INFINITY) {
      const loop = this.#branch(later);
      later = loop;
      this.#free(item(pattern), loop);
      this.#free(loop, end);
      return end;
    }
    for (let i = least; i < most; i++) {
      further();
      this.#free(later, end);
    }
    return end;
  }

  /** Knuth, Morris and Pratt: a state for each length of the text that the bytes so far may have begun. */
  #without(needle: Uint8Array, at: number): number {
    const states = Array.from(needle, () => this.#add());
    const fallback = [0];
    for (let i = 1, k = 0; i < needle.length; i++) {
      while (k > 0 && needle[i] !== needle[k]) k = fallback[k - 1]!;
      if (needle[i] === needle[k]) k++;
      fallback.push(k);
    }
    this.#free(at, states[0]!);
    const end = this.#add();
    states.forEach((state, matched) => {
      this.#free(state, end);
      for (let byte = 0; byte < 256; byte++) {
        let k = matched;
        while (k > 0 && needle[k] !== byte) k = fallback[k - 1]!;
        if (needle[k] === byte) k++;
        if (k < needle.length) this.states[state]!.bytes.push({ from: byte, to: byte, target: states[k]! });
      }
    });
    return end;
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
