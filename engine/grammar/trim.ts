import type { RuleStates } from './automaton.js';
import type { DfaState } from './dfa.js';
import { GrammarError } from './errors.js';
import type { KnownRules } from './known-rule.js';

/**
 * Takes away every way that leads to no end, so that whatever is allowed at one byte can be completed. Throws
 * `GrammarError` if nothing is left. Known rules all come to an end.
 */
export function trim(states: readonly DfaState[], rules: readonly RuleStates[], known: KnownRules): void {
  const before = states.map((): number[] => []);
  const callsOf = new Map(rules.map(({ name }) => [name, [] as number[]]));
  states.forEach(({ bytes, calls }, state) => {
    for (const { target } of bytes) before[target]!.push(state);
    for (const { rule, target } of calls) {
      before[target]!.push(state);
      callsOf.get(rule)?.push(state);
    }
  });
  const ruleAt = new Map(rules.map(({ name, start }) => [start, name]));
  const ends = states.map(() => false);
  const endingRules = new Set(known.keys());
  const open: number[] = [];
  const end = (state: number): void => {
    if (!ends[state]) open.push(state);
    ends[state] = true;
  };
  /** Looks again at a state of which some way has turned out to end. */
  const check = (state: number): void => {
    if (!ends[state] && states[state]!.bytes.some(({ target }) => ends[target])) end(state);
    const { calls } = states[state]!;
    if (!ends[state] && calls.some(({ rule, target }) => endingRules.has(rule) && ends[target])) end(state);
  };
  states.forEach(({ accepting }, state) => {
    if (accepting) end(state);
  });
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    for (const earlier of before[state]!) check(earlier);
    const rule = ruleAt.get(state);
    if (rule === undefined) continue;
    endingRules.add(rule);
    for (const caller of callsOf.get(rule)!) check(caller);
  }
  if (!endingRules.has(rules[0]!.name))
    throw new GrammarError('nothing fits the grammar: it can never come to an end');
  if (ends.every(Boolean)) return;
  for (const state of states) {
    state.bytes = state.bytes.filter(({ target }) => ends[target]);
    state.calls = state.calls.filter(({ rule, target }) => endingRules.has(rule) && ends[target]);
  }
}
