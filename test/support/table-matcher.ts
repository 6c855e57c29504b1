import type { GrammarTables } from '../../engine/grammar/tables.js';

type Stack = readonly number[];

/** Follows text through a grammar's tables by sets of whole stacks: slow, plain, and independent of native. */
export class TableMatcher {
  #stacks: Map<string, Stack>;

  constructor(private readonly tables: GrammarTables) {
    this.#stacks = this.#closed([[tables.ruleStarts[0]!]]);
  }

  /** Whether the text may begin an answer, or go on with what was followed before. */
  follow(text: string): boolean {
    for (const byte of Buffer.from(text)) if (!this.followByte(byte)) return false;
    return true;
  }

  followByte(byte: number): boolean {
    this.#stacks = this.#closed(this.#moved(byte));
    return this.#stacks.size > 0;
  }

  /** Bytes that may follow. */
  bytes(): number[] {
    return [...Array(256).keys()].filter((byte) => this.#moved(byte).length > 0);
  }

  /** Whether what was followed is an answer. */
  get ended(): boolean {
    return this.#stacks.has('');
  }

  #moved(byte: number): Stack[] {
    const { byteClasses, next, accepting } = this.tables;
    const classes = next.length / accepting.length;
    return [...this.#stacks.values()].flatMap((stack) => {
      const target = stack.length === 0 ? -1 : next[stack.at(-1)! * classes + byteClasses[byte]!]!;
      return target < 0 ? [] : [[...stack.slice(0, -1), target]];
    });
  }

  #closed(from: readonly Stack[]): Map<string, Stack> {
    const { accepting, callBegins, callReturns, callRules, ruleStarts } = this.tables;
    const all = new Map<string, Stack>();
    const open = [...from];
    for (let stack = open.pop(); stack; stack = open.pop()) {
      const key = stack.join();
      if (all.has(key)) continue;
      all.set(key, stack);
      const state = stack.at(-1);
      if (state === undefined) continue;
      const below = stack.slice(0, -1);
      for (let call = callBegins[state]!; call < callBegins[state + 1]!; call++) {
        open.push([...below, callReturns[call]!, ruleStarts[callRules[call]!]!]);
      }
      if (accepting[state]) open.push(below);
    }
    return all;
  }
}

/** Whether the whole text is an answer. */
export function accepts(tables: GrammarTables, text: string): boolean {
  const matcher = new TableMatcher(tables);
  return matcher.follow(text) && matcher.ended;
}
