import { fromDraft4 } from './draft4.js';
import {
  isEnforced,
  isSchemaObject,
  type Path,
  type Schema,
  type SchemaObject,
  saysNothing,
} from './keywords.js';
import type { Reading } from './reading.js';

/** A schema that both of two schemas hold for. Of what keywords cannot say together, which `cannot` is told, the first holds. */
export function both(a: Schema, b: Schema, path: Path, cannot: Reading['cannot']): Schema {
  if (a === true || b === false) return b;
  if (b === true || a === false) return a;
  if (saysNothing(a)) return b;
  if (saysNothing(b)) return a;
  return merged(fromDraft4(a), fromDraft4(b), path, cannot);
}

function merged(a: SchemaObject, b: SchemaObject, path: Path, cannot: Reading['cannot']): SchemaObject {
  // `items` is of those behind the `prefixItems` beside it alone.
  const haveOtherItems =
    [a, b].some((schema) => schema.prefixItems) &&
    [a, b].every((schema) => schema.prefixItems ?? schema.items);
  if (haveOtherItems) {
    cannot("'prefixItems' and other items that have to hold together are not supported", path);
  }
  // Names are whatever the client says, `__proto__` too.
  const together = new Map(Object.entries(a));
  for (const [keyword, value] of Object.entries(b)) {
    const own = together.get(keyword);
    if (value === undefined || same(own, value)) continue;
    if (haveOtherItems && ['items', 'prefixItems'].includes(keyword)) continue;
    together.set(keyword, own === undefined ? value : combined(keyword, own, value, path, cannot));
  }
  restrictProperties(a, b, together);
  return Object.fromEntries(together);
}

function combined(keyword: string, a: unknown, b: unknown, path: Path, cannot: Reading['cannot']): unknown {
  // Nothing follows from it, or it is refused for itself.
  if (!isEnforced(keyword)) return a;
  switch (keyword) {
    case 'type':
      return commonTypes([a].flat() as string[], [b].flat() as string[]);
    case 'enum':
      return (a as unknown[]).filter((value) => (b as unknown[]).some((other) => same(value, other)));
    case 'required':
      return [...new Set([...(a as string[]), ...(b as string[])])];
    case 'properties':
      return eachOf(a as SchemaObject, b as SchemaObject);
    case 'items':
    case 'additionalProperties':
      return allOf(a, b);
    case 'minimum':
    case 'exclusiveMinimum':
    case 'minLength':
    case 'minItems':
    case 'minProperties':
      return Math.max(a as number, b as number);
    case 'maximum':
    case 'exclusiveMaximum':
    case 'maxLength':
    case 'maxItems':
    case 'maxProperties':
      return Math.min(a as number, b as number);
    case 'allOf':
      return [...(a as unknown[]), ...(b as unknown[])];
    case 'nullable':
      return a === true && b === true;
    case 'uniqueItems':
      return a === true || b === true;
    default:
      cannot(`'${keyword}' occurs twice in what has to hold together, which is not supported`, path);
      return a;
  }
}

/** What one of them says of further properties holds for those that only the other one names. */
function restrictProperties(a: SchemaObject, b: SchemaObject, merged: Map<string, unknown>): void {
  const properties = new Map(Object.entries((merged.get('properties') as SchemaObject | undefined) ?? {}));
  for (const [named, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const { additionalProperties } = other;
    if (additionalProperties === undefined || additionalProperties === true) continue;
    const own = isSchemaObject(other.properties) ? other.properties : {};
    const names = [...Object.keys((named.properties as SchemaObject | undefined) ?? {})];
    for (const name of names) {
      if (!Object.hasOwn(own, name)) properties.set(name, allOf(properties.get(name), additionalProperties));
    }
  }
  if (properties.size > 0) merged.set('properties', Object.fromEntries(properties));
}

function commonTypes(a: readonly string[], b: readonly string[]): string[] {
  const has = (types: readonly string[], type: string): boolean =>
    types.includes(type) || (type === 'integer' && types.includes('number'));
  return [...new Set([...a, ...b])].filter((type) => has(a, type) && has(b, type));
}

function eachOf(a: SchemaObject, b: SchemaObject): SchemaObject {
  const merged = new Map(Object.entries(a));
  for (const [name, value] of Object.entries(b)) merged.set(name, allOf(merged.get(name), value));
  return Object.fromEntries(merged);
}

function allOf(a: unknown, b: unknown): unknown {
  return a === undefined || a === true ? b : b === true ? a : { allOf: [a, b] };
}

export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isSchemaObject(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}
