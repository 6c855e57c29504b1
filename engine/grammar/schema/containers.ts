import { GrammarError } from '../errors.js';
import * as json from '../json.js';
import { nothing, type Pattern, text } from '../pattern.js';
import { isSchemaObject, type Path, type SchemaObject } from './keywords.js';
import { otherKey } from './other-key.js';
import { countOf, listOf, type Reading } from './reading.js';

export function arrayPattern(reading: Reading, schema: SchemaObject, path: Path, depth: number): Pattern {
  const least = countOf(schema, 'minItems', path) ?? 0;
  const most = countOf(schema, 'maxItems', path) ?? Number.POSITIVE_INFINITY;
  // Before 2020-12 an array of items was what `prefixItems` is now.
  const isOld = Array.isArray(schema.items);
  const given = isOld ? schema.items : (schema.prefixItems ?? []);
  const heads = listOf(given, [...path, isOld ? 'items' : 'prefixItems']).slice(0, most);
  const patterns = heads.map((head, index) =>
    reading.pattern(head, [...path, 'prefixItems', index], depth + 1),
  );
  // An item that nothing fits ends the array before it.
  const impossible = patterns.findIndex(isNothing);
  const possible = impossible < 0 ? patterns : patterns.slice(0, impossible);
  const rest = isOld ? true : (schema.items ?? true);
  const other =
    impossible >= 0 ? nothing : reading.shared(reading.pattern(rest, [...path, 'items'], depth + 1), most);
  const further = isNothing(other) ? 0 : Math.max(0, most - possible.length);
  const missing = Math.max(0, least - possible.length);
  if (missing > further || least > most) return nothing;
  return json.array({
    gaps: false,
    items: possible.map((pattern, index) => ({ pattern, required: index < least })),
    ...(further > 0 && { rest: { pattern: other, least: missing, most: further } }),
    filled: false,
  });
}

export function objectPattern(reading: Reading, schema: SchemaObject, path: Path, depth: number): Pattern {
  const properties = schema.properties ?? {};
  if (!isSchemaObject(properties)) throw new GrammarError('expected an object', [...path, 'properties']);
  const required = listOf(schema.required ?? [], [...path, 'required']) as string[];
  const { additionalProperties } = schema;
  const others = additionalProperties ?? Object.keys(properties).length === 0;
  const otherAt = [...path, 'additionalProperties'];
  const items: { pattern: Pattern; required: boolean }[] = [];
  const names = [...new Set([...Object.keys(properties), ...required])];
  for (const name of names) {
    if (typeof name !== 'string') throw new GrammarError('expected texts', [...path, 'required']);
    const isNamed = Object.hasOwn(properties, name);
    const place = isNamed ? [...path, 'properties', name] : otherAt;
    const value = reading.pattern(
      isNamed ? properties[name] : (additionalProperties ?? true),
      place,
      depth + 1,
    );
    const isRequired = required.includes(name);
    if (isNothing(value) && isRequired) return nothing;
    if (!isNothing(value)) {
      items.push({ pattern: json.member(text(JSON.stringify(name)), value), required: isRequired });
    }
  }
  const least = countOf(schema, 'minProperties', path) ?? 0;
  const most = countOf(schema, 'maxProperties', path) ?? Number.POSITIVE_INFINITY;
  if (least > Math.max(required.length, 1)) {
    reading.cannot("'minProperties' beyond the required ones is not supported", [...path, 'minProperties']);
  }
  if (most < items.length) {
    if (required.length > most) return nothing;
    reading.cannot("'maxProperties' below the properties is not supported", [...path, 'maxProperties']);
  }
  const value = reading.pattern(others, otherAt, depth + 1);
  const further = isNothing(value) ? 0 : Math.max(0, most - items.length);
  const filled = least > 0;
  if (filled && items.length === 0 && further === 0) return nothing;
  return json.object({
    gaps: true,
    items,
    filled,
    ...(further > 0 && {
      rest: {
        pattern: reading.shared(json.member(otherKey(names), value), further),
        least: 0,
        most: further,
      },
    }),
  });
}

function isNothing(pattern: Pattern): boolean {
  return pattern.kind === 'choice' && pattern.options.every(isNothing);
}
