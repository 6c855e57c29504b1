import { classesOf } from './classes.js';
import { Dfa, type DfaState } from './dfa.js';
import { Effort } from './effort.js';
import { GrammarError } from './errors.js';
import { calledOf, type KnownRule, type KnownRules, noKnownRules } from './known-rule.js';
import { refuseLeftRecursion } from './left-recursion.js';
import { Nfa } from './nfa.js';
import type { Rules } from './pattern.js';
import { refuseManyPlaces } from './places.js';
import type { GrammarTables } from './tables.js';
import { trim } from './trim.js';

/** Cells of the table of transitions, four bytes each. */
const mostCells = 8_000_000;

/** A rule with its states in a list of all rules' states. */
export interface RuleStates {
  readonly name: string;
  readonly start: number;
}

/**
 * Makes deterministic automata of rules, of which the first is the whole; they may call `known` ones too. Throws
 * `GrammarError` if they are too large, one calls itself before anything else, or nothing fits them.
 */
export function makeTables(
  rules: Rules,
  known: KnownRules = noKnownRules,
  effort = new Effort(),
): GrammarTables {
  const { states, starts } = statesOf(rules, effort);
  const names = new Set(rules.keys());
  const called = new Set<string>();
  for (const { calls } of states) {
    for (const { rule } of calls) {
      if (known.has(rule)) called.add(rule);
      else if (!names.has(rule)) throw new GrammarError(`there is no rule '${rule}'`);
    }
  }
  trim(states, starts, known);
  refuseLeftRecursion(states, starts, known);
  refuseManyPlaces(states, starts, known);
  return tablesOf(states, starts, calledOf(known, called));
}

/** The states of all rules, one rule behind another. */
export function statesOf(rules: Rules, effort: Effort): { states: DfaState[]; starts: RuleStates[] } {
  const states: DfaState[] = [];
  const starts: RuleStates[] = [];
  for (const [name, pattern] of rules) {
    const dfa = new Dfa(new Nfa(pattern, effort), states.length, effort);
    starts.push({ name, start: states.length });
    for (const state of dfa.states) states.push(state);
  }
  return { states, starts };
}

/** The known rules come behind the others, in their order. */
function tablesOf(
  states: readonly DfaState[],
  starts: readonly RuleStates[],
  known: readonly KnownRule[],
): GrammarTables {
  const { byteClasses, firstBytes } = classesOf(states, known);
  const classes = firstBytes.length;
  const count = known.reduce((sum, rule) => sum + rule.states, states.length);
  if (count * classes > mostCells) {
    throw new GrammarError(
      'the grammar is too large: reduce its limits of lengths and counts, or its choices',
    );
  }
  const indices = new Map([...starts, ...known].map(({ name }, index) => [name, index]));
  const ruleStarts = starts.map(({ start }) => start);
  const next = new Int32Array(count * classes).fill(-1);
  const accepting = new Uint8Array(count);
  const callBegins = new Int32Array(count + 1);
  const callRules: number[] = [];
  const callReturns: number[] = [];
  const call = (state: number, rule: string, target: number): void => {
    callRules.push(indices.get(rule)!);
    callReturns.push(target);
    callBegins[state + 1]!++;
  };
  states.forEach(({ bytes, calls, accepting: ends }, state) => {
    for (const { from, to, target } of bytes) {
      next.fill(target, state * classes + byteClasses[from]!, state * classes + byteClasses[to]! + 1);
    }
    for (const { rule, target } of calls) call(state, rule, target);
    accepting[state] = Number(ends);
  });
  let start = states.length;
  for (const rule of known) {
    ruleStarts.push(start);
    const own = rule.firstBytes.length;
    const ownClasses = Uint8Array.from(firstBytes, (byte) => rule.byteClasses[byte]!);
    for (let state = 0; state < rule.states; state++) {
      for (let index = 0; index < classes; index++) {
        const target = rule.next[state * own + ownClasses[index]!]!;
        if (target >= 0) next[(start + state) * classes + index] = start + target;
      }
    }
    for (const { state, rule: other, target } of rule.calls) call(start + state, other, start + target);
    accepting.set(rule.accepting, start);
    start += rule.states;
  }
  for (let state = 0; state < count; state++) callBegins[state + 1]! += callBegins[state]!;
  return {
    byteClasses,
    next,
    callBegins,
    callRules: Int32Array.from(callRules),
    callReturns: Int32Array.from(callReturns),
    accepting,
    ruleStarts: Int32Array.from(ruleStarts),
  };
}
