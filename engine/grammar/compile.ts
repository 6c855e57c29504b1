import { createHash } from 'node:crypto';
import { makeTables } from './automaton.js';
import { Effort } from './effort.js';
import { GrammarError } from './errors.js';
import { readGbnf } from './gbnf.js';
import * as json from './json.js';
import { noKnownRules } from './known-rule.js';
import { knownRules } from './known-rules.js';
import {
  chars,
  choice,
  complement,
  oneOf,
  type Pattern,
  type Rules,
  repeat,
  rule,
  sequence,
  text,
} from './pattern.js';
import { SchemaReader } from './schema/schema-reader.js';
import type { GrammarPart, GrammarSource } from './source.js';
import { type GrammarTables, shared } from './tables.js';

/** A grammar as the device takes it. `key`: equal for equal sources. */
export interface CompiledGrammar {
  readonly key: string;
  readonly tables: GrammarTables;
}

/** A source that cannot be followed: `param` names the field that it came from, and the place in it. */
export class InvalidGrammar extends Error {
  override readonly name = 'InvalidGrammar';

  constructor(
    message: string,
    readonly param: string | undefined,
  ) {
    super(message);
  }
}

export function grammarKey(source: GrammarSource): string {
  return createHash('sha256').update(JSON.stringify(source)).digest('base64url');
}

/** Compiles a grammar for every vocabulary. Throws `InvalidGrammar`, and `TooMuchEffort` where that is bounded. */
export function compileGrammar(source: GrammarSource, effort = new Effort()): CompiledGrammar {
  return { key: grammarKey(source), tables: shared(tablesOf(source, effort)) };
}

function tablesOf(source: GrammarSource, effort: Effort): GrammarTables {
  if (source.type === 'gbnf') {
    return naming(source.param, () => makeTables(readGbnf(source.text), noKnownRules, effort));
  }
  const rules = new Map<string, Pattern>();
  const root = patternOf(source, rules);
  const { reached, others } = reachable(new Map([['root', root], ...rules]));
  return naming(paramOf(source), () => makeTables(reached, knownRules(others), effort));
}

function naming<T>(param: string | undefined, work: () => T): T {
  try {
    return work();
  } catch (error) {
    // Values may be nested deeper than the stack.
    if (error instanceof RangeError) throw new InvalidGrammar('it is nested too deep', param);
    if (!(error instanceof GrammarError)) throw error;
    throw new InvalidGrammar(error.message, [param ?? [], error.path].flat().join('.') || undefined);
  }
}

/** Of the one schema, if there is one. */
function paramOf(source: GrammarPart): string | undefined {
  return source.type === 'schema' ? source.param : undefined;
}

function patternOf(part: GrammarPart, rules: Map<string, Pattern>): Pattern {
  switch (part.type) {
    case 'json':
      return rule('object');
    case 'schema':
      return naming(part.param, () => new SchemaReader(part.schema, part.lenient, rules).read());
    case 'text':
      return text(part.text);
    case 'without':
      return { kind: 'without', text: part.text };
    case 'notBeginning': {
      const space = ' \t\r\n';
      const other = complement(
        Array.from(space + part.characters, (c) => [c.charCodeAt(0), c.charCodeAt(0)] as const),
      );
      return sequence(repeat(oneOf(space), 0), chars(...other), repeat(chars([0, 0x10ffff]), 0));
    }
    case 'space':
      return json.space;
    case 'sequence':
      return sequence(...part.parts.map((inner) => patternOf(inner, rules)));
    case 'choice':
      return choice(part.options.map((inner) => patternOf(inner, rules)));
    case 'repeat':
      return repeat(patternOf(part.part, rules), part.least);
  }
}

/** The rules that the first one calls, or those call; and the names of those that are not among them. */
function reachable(rules: Rules): { reached: Rules; others: ReadonlySet<string> } {
  const reached = new Map<string, Pattern>();
  const others = new Set<string>();
  const visit = (name: string): void => {
    const pattern = rules.get(name);
    if (!pattern) others.add(name);
    if (!pattern || reached.has(name)) return;
    reached.set(name, pattern);
    forEachCall(pattern, visit);
  };
  visit([...rules.keys()][0]!);
  return { reached, others };
}

function forEachCall(pattern: Pattern, visit: (rule: string) => void): void {
  switch (pattern.kind) {
    case 'rule':
      visit(pattern.name);
      break;
    case 'sequence':
      for (const item of pattern.items) forEachCall(item, visit);
      break;
    case 'choice':
      for (const option of pattern.options) forEachCall(option, visit);
      break;
    case 'repeat':
      forEachCall(pattern.item, visit);
      break;
    case 'list':
      forEachCall(pattern.list.separator, visit);
      for (const item of pattern.list.items) forEachCall(item.pattern, visit);
      if (pattern.list.rest) forEachCall(pattern.list.rest.pattern, visit);
      break;
  }
}
