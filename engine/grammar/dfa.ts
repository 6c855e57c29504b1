import { GrammarError } from './errors.js';
import type { ByteEdge, CallEdge, Nfa } from './nfa.js';

export interface DfaState {
  bytes: ByteEdge[];
  calls: CallEdge[];
  accepting: boolean;
}

const mostStates = 200_000;

/** The subset construction: a state stands for all states of the NFA that the same bytes lead to. */
export class Dfa {
  /** The first is the start. Targets are counted from `base`. */
  readonly states: DfaState[] = [];
  readonly #sets: (readonly number[])[] = [];
  readonly #indices = new Map<string, number>();

  constructor(
    private readonly nfa: Nfa,
    private readonly base: number,
  ) {
    this.#stateOf([nfa.start]);
    for (let index = 0; index < this.#sets.length; index++) this.#fill(index);
  }

  #stateOf(seeds: readonly number[]): number {
    const set = this.#closure(seeds);
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
    return this.base + index;
  }

  /** What is reached without a byte; of it what has edges or ends. */
  #closure(seeds: readonly number[]): number[] {
    const seen = new Set(seeds);
    for (const state of seen) for (const next of this.nfa.states[state]!.free) seen.add(next);
    return [...seen]
      .filter((state) => {
        const { bytes, calls } = this.nfa.states[state]!;
        return bytes.length > 0 || calls.length > 0 || state === this.nfa.end;
      })
      .sort((a, b) => a - b);
  }

  #fill(index: number): void {
    const edges: ByteEdge[] = [];
    const calls = new Map<string, number[]>();
    for (const member of this.#sets[index]!) {
      const state = this.nfa.states[member]!;
      edges.push(...state.bytes);
      for (const { rule, target } of state.calls) calls.set(rule, [...(calls.get(rule) ?? []), target]);
    }
    const state = this.states[index]!;
    state.bytes = this.#disjoint(edges);
    state.calls = [...calls].map(([rule, targets]) => ({ rule, target: this.#stateOf(targets) }));
  }

  #disjoint(edges: readonly ByteEdge[]): ByteEdge[] {
    if (edges.length === 1) return [{ ...edges[0]!, target: this.#stateOf([edges[0]!.target]) }];
    const borders = [...new Set(edges.flatMap(({ from, to }) => [from, to + 1]))].sort((a, b) => a - b);
    const result: ByteEdge[] = [];
    for (let i = 0; i + 1 < borders.length; i++) {
      const from = borders[i]!;
      const targets = new Set<number>();
      for (const edge of edges) if (edge.from <= from && from <= edge.to) targets.add(edge.target);
      if (targets.size === 0) continue;
      const target = this.#stateOf([...targets]);
      const to = borders[i + 1]! - 1;
      const last = result.at(-1);
      if (last?.target === target && last.to === from - 1) result[result.length - 1] = { ...last, to };
      else result.push({ from, to, target });
    }
    return result;
  }
}
