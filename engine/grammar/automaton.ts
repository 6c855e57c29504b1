import { Dfa, type DfaState } from './dfa.js';
import { GrammarError } from './errors.js';
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
 * Makes deterministic automata of rules, of which the first is the whole. Throws `GrammarError` if they are too large,
 * one calls itself before anything else, or nothing fits them.
 */
export function makeTables(rules: Rules): GrammarTables {
  const states: DfaState[] = [];
  const starts: RuleStates[] = [];
  for (const [name, pattern] of rules) {
    const dfa = new Dfa(new Nfa(pattern), states.length);
    starts.push({ name, start: states.length });
    for (const state of dfa.states) states.push(state);
  }
  const indices = new Map(starts.map(({ name }, index) => [name, index]));
  for (const { calls } of states) {
    const missing = calls.find(({ rule }) => !indices.has(rule));
    if (missing) throw new GrammarError(`there is no rule '${missing.rule}'`);
  }
  trim(states, starts);
  refuseLeftRecursion(states, starts);
  refuseManyPlaces(states, starts);
  return tablesOf(states, starts, indices);
}

function tablesOf(
  states: readonly DfaState[],
  starts: readonly RuleStates[],
  indices: ReadonlyMap<string, number>,
): GrammarTables {
  const { byteClasses, count } = classesOf(states);
  if (states.length * count > mostCells) {
    throw new GrammarError(
      'the grammar is too large: reduce its limits of lengths and counts, or its choices',
    );
  }
  const next = new Int32Array(states.length * count).fill(-1);
  const callBegins = new Int32Array(states.length + 1);
  const callRules: number[] = [];
  const callReturns: number[] = [];
  states.forEach(({ bytes, calls }, state) => {
    for (const { from, to, target } of bytes) {
      for (let byte = from; byte <= to; byte++) next[state * count + byteClasses[byte]!] = target;
    }
    for (const { rule, target } of calls) {
      callRules.push(indices.get(rule)!);
      callReturns.push(target);
    }
    callBegins[state + 1] = callRules.length;
  });
  return {
    byteClasses,
    next,
    callBegins,
    callRules: Int32Array.from(callRules),
    callReturns: Int32Array.from(callReturns),
    accepting: Uint8Array.from(states, ({ accepting }) => Number(accepting)),
    ruleStarts: Int32Array.from(starts, ({ start }) => start),
  };
}

/** Bytes that no edge tells apart are one class. */
function classesOf(states: readonly DfaState[]): { byteClasses: Uint8Array; count: number } {
  const begins = new Uint8Array(257);
  for (const { bytes } of states) {
    for (const { from, to } of bytes) {
      begins[from] = 1;
      begins[to + 1] = 1;
    }
  }
  const byteClasses = new Uint8Array(256);
  let last = 0;
  for (let byte = 1; byte < 256; byte++) {
    if (begins[byte]) last++;
    byteClasses[byte] = last;
  }
  return { byteClasses, count: last + 1 };
}
