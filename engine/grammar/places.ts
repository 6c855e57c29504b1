import type { RuleStates } from './automaton.js';
import type { DfaState } from './dfa.js';
import { GrammarError } from './errors.js';

/** Native follows 256 places at once (native/grammar/automaton.cc); from any one of them there are fewer. */
const mostPlaces = 200;

/** Refuses grammars in which too many rules may begin at one place. There must be no left recursion. */
export function refuseManyPlaces(states: readonly DfaState[], rules: readonly RuleStates[]): void {
  const starts = new Map(rules.map(({ name, start }) => [name, start]));
  states.forEach(({ calls }, state) => {
    if (calls.length > 0 && placesFrom(state, states, starts) > mostPlaces) {
      throw new GrammarError(`more than ${mostPlaces} rules may begin at one place`);
    }
  });
}

/** Counts what `Automaton::enter` reaches: states with the states to return to. */
function placesFrom(first: number, states: readonly DfaState[], starts: ReadonlyMap<string, number>): number {
  const seen = new Set<string>();
  const open: (readonly number[])[] = [[first]];
  for (let stack = open.pop(); stack && seen.size <= mostPlaces; stack = open.pop()) {
    const key = stack.join();
    const state = stack.at(-1);
    if (state === undefined || seen.has(key)) continue;
    seen.add(key);
    const below = stack.slice(0, -1);
    for (const { rule, target } of states[state]!.calls) open.push([...below, target, starts.get(rule)!]);
    if (states[state]!.accepting) open.push(below);
  }
  return seen.size;
}
