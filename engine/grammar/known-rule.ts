import type { Classes } from './classes.js';

/** A rule that was compiled before, for whichever grammar calls it. It calls none but other known ones. */
export interface KnownRule extends Classes {
  readonly name: string;
  readonly states: number;
  /** [states, classes]: a state of the rule, counted from its first, or -1. */
  readonly next: Int32Array;
  /** In order of their states. */
  readonly calls: readonly { readonly state: number; readonly rule: string; readonly target: number }[];
  readonly accepting: Uint8Array;
  /** It may end where it begins. */
  readonly isNullable: boolean;
  /** Places where it begins, with those where begins what it calls there. */
  readonly places: number;
}

/** By name. */
export type KnownRules = ReadonlyMap<string, KnownRule>;

export const noKnownRules: KnownRules = new Map();

/** Those of the known rules that are called, and those that they call. */
export function calledOf(known: KnownRules, called: Iterable<string>): KnownRule[] {
  const names = new Set(called);
  for (const name of names) for (const { rule } of known.get(name)?.calls ?? []) names.add(rule);
  return [...known.values()].filter(({ name }) => names.has(name));
}
