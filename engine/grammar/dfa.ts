import type { Effort } from './effort.js';
import { GrammarError } from './errors.js';
import type { ByteEdge, CallEdge, Nfa } from './nfa.js';

export interface DfaState {
  bytes: readonly ByteEdge[];
  calls: readonly CallEdge[];
  accepting: boolean;
}

const mostStates = 200_000;

/** The subset construction: a state stands for all states of the NFA that the same bytes lead to. */
export class Dfa {
  /** The first is the start. Targets are counted from `base`. */
  readonly states: DfaState[] = [];
  readonly #sets: (readonly number[])[] = [];
  readonly #indices = new Map<string, number>();
  /** By what was asked for: most edges lead where others have led before. */
  readonly #bySeeds = new Map<number | string, number>();
  /** Of each state of the NFA the number of the closure that it was last in. */
  readonly #seenIn: Int32Array;
  #closures = 0;

  constructor(
    private readonly nfa: Nfa,
    private readonly base: number,
    private readonly effort: Effort,
  ) {
    this.#seenIn = new Int32Array(nfa.states.length);
    this.#stateOf([nfa.start]);
    for (let index = 0; index < this.#sets.length; index++) this.#fill(index);
  }

  #stateOf(seeds: readonly number[]): number {
    const key = seeds.length === 1 ? seeds[0]! : seeds.join();
    let index = this.#bySeeds.get(key);
    if (index === undefined) {
      index = this.#stateOfSet(this.#closure(seeds));
      this.#bySeeds.set(key, index);
    }
    return this.base + index;
  }

  #stateOfSet(set: readonly number[]): number {
    const key = set.join();
    let index = this.#indices.get(key);
    if (index === undefined) {
      index = this.#sets.length;
      if (index >= mostStates)
        throw new GrammarError('the grammar is too large: its choices begin too much alike');
      this.#indices.set(key, index);
      this.#sets.push(set);
      this.states.push({ bytes: [], calls: [], accepting: set.includes(this.nfa.end) });
    }
    return index;
  }

  /** What is reached without a byte; of it what has edges or ends. */
  #closure(seeds: readonly number[]): number[] {
    const { states, end } = this.nfa;
    const seen = this.#seenIn;
    const round = ++this.#closures;
    const open = [...seeds];
    const set: number[] = [];
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      if (seen[state] === round) continue;
      seen[state] = round;
      const { bytes, calls, free } = states[state]!;
      this.effort.spend(1 + free.length);
      if (bytes.length > 0 || calls.length > 0 || state === end) set.push(state);
      for (const next of free) open.push(next);
    }
    return set.sort((a, b) => a - b);
  }

  #fill(index: number): void {
    const edges: ByteEdge[] = [];
    const calls = new Map<string, number[]>();
    for (const member of this.#sets[index]!) {
      const state = this.nfa.states[member]!;
      for (const edge of state.bytes) edges.push(edge);
      for (const { rule, target } of state.calls) {
        const targets = calls.get(rule);
        if (targets) targets.push(target);
        else calls.set(rule, [target]);
      }
    }
    this.effort.spend(edges.length);
    const state = this.states[index]!;
    state.bytes = this.#disjoint(edges);
    if (calls.size === 0) return;
    state.calls = Array.from(calls, ([rule, targets]) => ({ rule, target: this.#stateOf(targets) }));
  }

  #disjoint(edges: ByteEdge[]): ByteEdge[] {
    edges.sort((a, b) => a.from - b.from);
    const result: ByteEdge[] = [];
    const add = (from: number, to: number, target: number): void => {
      const last = result.at(-1);
      if (last?.target === target && last.to === from - 1) result[result.length - 1] = { ...last, to };
      else result.push({ from, to, target });
    };
    if (edges.every(({ from }, i) => i === 0 || edges[i - 1]!.to < from)) {
      for (const { from, to, target } of edges) add(from, to, this.#stateOf([target]));
      return result;
    }
    const borders = [...new Set(edges.flatMap(({ from, to }) => [from, to + 1]))].sort((a, b) => a - b);
    for (let i = 0; i + 1 < borders.length; i++) {
      const from = borders[i]!;
      const targets: number[] = [];
      for (const edge of edges) {
        if (edge.from > from) break;
        if (edge.to >= from && !targets.includes(edge.target)) targets.push(edge.target);
      }
      if (targets.length > 0) add(from, borders[i + 1]! - 1, this.#stateOf(targets));
    }
    return result;
  }
}
