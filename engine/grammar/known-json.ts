import { statesOf } from './automaton.js';
import { classesOf } from './classes.js';
import { jsonRules } from './json.js';
import { type KnownRule, type KnownRules, noKnownRules } from './known-rule.js';
import { nullableRules } from './left-recursion.js';
import { placesBounds } from './places.js';

let made: KnownRules | undefined;

/** JSON's own rules, which all schemas have in common. Compiled when they are first asked for; nothing ever changes them. */
export function knownJson(): KnownRules {
  made ??= compiled();
  return made;
}

function compiled(): KnownRules {
  const { states, starts } = statesOf(new Map(Object.entries(jsonRules)));
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
