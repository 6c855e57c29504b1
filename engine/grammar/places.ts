import type { RuleStates } from './automaton.js';
import type { DfaState } from './dfa.js';
import { GrammarError } from './errors.js';
import type { KnownRules } from './known-rule.js';
import { nullableRules } from './left-recursion.js';

/** Native follows 256 places at once (native/grammar/automaton.cc); from any one of them there are fewer. */
const mostPlaces = 200;

/** Refuses grammars in which too many rules may begin at one place. There must be no left recursion. */
export function refuseManyPlaces(
  states: readonly DfaState[],
  rules: readonly RuleStates[],
  known: KnownRules,
): void {
  const starts = new Map(rules.map(({ name, start }) => [name, start]));
  const boundOf = placesBounds(states, rules, known);
  states.forEach(({ calls }, state) => {
    if (calls.length === 0 || boundOf(state) <= mostPlaces) return;
    if (placesFrom(state, states, starts, known) > mostPlaces) {
      throw new GrammarError(`more than ${mostPlaces} rules may begin at one place`);
    }
  });
}

/** Tells how many places there are at most from a state: the ways to them, of which several may lead to one. */
export function placesBounds(
  states: readonly DfaState[],
  rules: readonly RuleStates[],
  known: KnownRules,
): (state: number) => number {
  const starts = new Map(rules.map(({ name, start }) => [name, start]));
  const nullable = nullableRules(states, rules, known);
  const bounds = new Int32Array(states.length);
  const boundOf = (state: number): number => {
    if (bounds[state]) return bounds[state];
    bounds[state] = mostPlaces + 1; // for whoever comes back here without a byte
    let ways = 1;
    for (const { rule, target } of states[state]!.calls) {
      ways += known.get(rule)?.places ?? boundOf(starts.get(rule)!);
      if (nullable.has(rule)) ways += boundOf(target);
    }
    bounds[state] = Math.min(ways, mostPlaces + 1);
    return bounds[state];
  };
  return boundOf;
}

/** Counts what `Automaton::enter` reaches: states with the states to return to. */
function placesFrom(
  first: number,
  states: readonly DfaState[],
  starts: ReadonlyMap<string, number>,
  known: KnownRules,
): number {
  const seen = new Set<string>();
  const seenKnown = new Set<string>();
  let ofKnown = 0;
  const open: (readonly number[])[] = [[first]];
  for (let stack = open.pop(); stack && seen.size + ofKnown <= mostPlaces; stack = open.pop()) {
    const key = stack.join();
    const state = stack.at(-1);
    if (state === undefined || seen.has(key)) continue;
    seen.add(key);
    const below = stack.slice(0, -1);
    for (const { rule, target } of states[state]!.calls) {
      const back = [...below, target];
      const other = known.get(rule);
      const places = `${back.join()},${rule}`;
      if (!other) open.push([...back, starts.get(rule)!]);
      else if (!seenKnown.has(places)) ofKnown += other.places;
      seenKnown.add(places);
      if (other?.isNullable) open.push(back);
    }
    if (states[state]!.accepting) open.push(below);
  }
  return seen.size + ofKnown;
}
