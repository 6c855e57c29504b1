import type { RuleStates } from './automaton.js';
import type { DfaState } from './dfa.js';
import { GrammarError } from './errors.js';

/**
 * Takes away every way that leads to no end, so that whatever is allowed at one byte can be completed. Throws
 * `GrammarError` if nothing is left.
 */
export function trim(states: readonly DfaState[], rules: readonly RuleStates[]): void {
  const callers = new Map<number, { state: number; rule: string }[]>();
  const before = new Map<number, number[]>();
  const callsOf = new Map<string, { state: number; target: number }[]>();
  const add = <K, V>(map: Map<K, V[]>, key: K, value: V): void => {
    const list = map.get(key);
    if (list) list.push(value);
    else map.set(key, [value]);
  };
  states.forEach(({ bytes, calls }, state) => {
    for (const { target } of bytes) add(before, target, state);
    for (const { rule, target } of calls) {
      add(callers, target, { state, rule });
      add(callsOf, rule, { state, target });
    }
  });
  const ruleAt = new Map(rules.map(({ name, start }) => [start, name]));
  const ends = new Set<number>();
  const endingRules = new Set<string>();
  states.forEach(({ accepting }, state) => {
    if (accepting) ends.add(state);
  });
  // A set is walked through what is added to it meanwhile.
  for (const state of ends) {
    for (const earlier of before.get(state) ?? []) ends.add(earlier);
    for (const { state: caller, rule } of callers.get(state) ?? [])
      if (endingRules.has(rule)) ends.add(caller);
    const rule = ruleAt.get(state);
    if (rule === undefined) continue;
    endingRules.add(rule);
    for (const call of callsOf.get(rule) ?? []) if (ends.has(call.target)) ends.add(call.state);
  }
  if (!endingRules.has(rules[0]!.name))
    throw new GrammarError('nothing fits the grammar: it can never come to an end');
  for (const state of states) {
    state.bytes = state.bytes.filter(({ target }) => ends.has(target));
    state.calls = state.calls.filter(({ rule, target }) => endingRules.has(rule) && ends.has(target));
  }
}
