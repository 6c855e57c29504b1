import { statesOf } from './automaton.js';
import { classesOf } from './classes.js';
import { Effort } from './effort.js';
import { jsonRules } from './json.js';
import { type KnownRule, type KnownRules, noKnownRules } from './known-rule.js';
import { nullableRules } from './left-recursion.js';
import type { Rules } from './pattern.js';
import { placesBounds } from './places.js';
import { formatPattern } from './schema/formats.js';

let json: KnownRules | undefined;
const formats = new Map<string, KnownRule>();

/**
 * The rules that schemas have in common: those of JSON itself, and of the formats of strings those that are called, since
 * some have many states. Compiled when they are first asked for, for all schemas; nothing ever changes them.
 */
export function knownRules(called: Iterable<string> = []): KnownRules {
  json ??= compiled(new Map(Object.entries(jsonRules)));
  const known = new Map(json);
  for (const name of called) {
    const format = known.has(name) ? undefined : knownFormat(name);
    if (format) known.set(name, format);
  }
  return known;
}

function knownFormat(name: string): KnownRule | undefined {
  let format = formats.get(name);
  if (!format) {
    const pattern = formatPattern(name);
    if (!pattern) return undefined;
    format = compiled(new Map([[name, pattern]])).get(name)!;
    formats.set(name, format);
  }
  return format;
}

/** Rules that call none but each other. */
function compiled(patterns: Rules): KnownRules {
  const { states, starts } = statesOf(patterns, new Effort());
  const nullable = nullableRules(states, starts, noKnownRules);
  const placesFrom = placesBounds(states, starts, noKnownRules);
  const rules = starts.map(({ name, start }, index): KnownRule => {
    const own = states.slice(start, starts[index + 1]?.start);
    const classes = classesOf(own, []);
    const count = classes.firstBytes.length;
    const next = new Int32Array(own.length * count).fill(-1);
    own.forEach(({ bytes }, state) => {
      for (const { from, to, target } of bytes) {
        const [first, last] = [classes.byteClasses[from]!, classes.byteClasses[to]!];
        next.fill(target - start, state * count + first, state * count + last + 1);
      }
    });
    return {
      ...classes,
      name,
      states: own.length,
      next,
      calls: own.flatMap(({ calls }, state) =>
        calls.map(({ rule, target }) => ({ state, rule, target: target - start })),
      ),
      accepting: Uint8Array.from(own, ({ accepting }) => Number(accepting)),
      isNullable: nullable.has(name),
      places: placesFrom(start),
    };
  });
  return new Map(rules.map((rule) => [rule.name, rule]));
}
