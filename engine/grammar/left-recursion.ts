import type { RuleStates } from './automaton.js';
import type { DfaState } from './dfa.js';
import { GrammarError } from './errors.js';
import type { KnownRules } from './known-rule.js';

/** Refuses rules that call themselves before anything is written: there would be calls without end. */
export function refuseLeftRecursion(
  states: readonly DfaState[],
  rules: readonly RuleStates[],
  known: KnownRules,
): void {
  const starts = new Map(rules.map(({ name, start }) => [name, start]));
  const nullable = nullableRules(states, rules, known);
  const firstCalls = new Map<string, Set<string>>();
  for (const { name, start } of rules) {
    const calls = new Set<string>();
    for (const state of withoutBytes(states, start, nullable)) {
      for (const { rule } of states[state]!.calls) if (!known.has(rule)) calls.add(rule);
    }
    firstCalls.set(name, calls);
  }
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) throw new GrammarError(`rule '${name}' begins with itself (left recursion)`);
    if (done.has(name)) return;
    for (const called of firstCalls.get(name)!) visit(called, [...path, name]);
    done.add(name);
  };
  for (const name of starts.keys()) visit(name, []);
}

/** Rules that may end where they begin. */
export function nullableRules(
  states: readonly DfaState[],
  rules: readonly RuleStates[],
  known: KnownRules,
): ReadonlySet<string> {
  const nullable = new Set<string>();
  for (const { name, isNullable } of known.values()) if (isNullable) nullable.add(name);
  for (let grown = true; grown; ) {
    grown = false;
    for (const { name, start } of rules) {
      if (nullable.has(name)) continue;
      if (![...withoutBytes(states, start, nullable)].some((state) => states[state]!.accepting)) continue;
      nullable.add(name);
      grown = true;
    }
  }
  return nullable;
}

function withoutBytes(
  states: readonly DfaState[],
  start: number,
  nullable: ReadonlySet<string>,
): Set<number> {
  const seen = new Set([start]);
  for (const state of seen) {
    for (const { rule, target } of states[state]!.calls) if (nullable.has(rule)) seen.add(target);
  }
  return seen;
}
