import { isSchemaObject, type Schema, type TypeName, typeNames, typeOf } from './keywords.js';
import { same } from './merge.js';

/** Whether no value fits two of the schemas, as far as types, values and the values of required properties show. */
export function areApart(schemas: readonly Schema[]): boolean {
  return schemas.every((a, i) => schemas.slice(i + 1).every((b) => twoAreApart(a, b, 0)));
}

function twoAreApart(a: Schema, b: Schema, depth: number): boolean {
  if (a === false || b === false) return true;
  if (!isSchemaObject(a) || !isSchemaObject(b) || depth > 4) return false;
  const types = typesOf(a);
  const others = typesOf(b);
  const common = types.filter((type) => others.includes(type));
  if (common.length === 0) return true;
  const values = valuesOf(a);
  const otherValues = valuesOf(b);
  if (values && otherValues && !values.some((value) => otherValues.some((other) => same(value, other))))
    return true;
  if (common.some((type) => type !== 'object')) return false;
  return requiredIn(a, b).some((name) => {
    const [own, other] = [propertyOf(a, name), propertyOf(b, name)];
    return own !== undefined && other !== undefined && twoAreApart(own, other, depth + 1);
  });
}

function typesOf(schema: Record<string, unknown>): TypeName[] {
  const values = valuesOf(schema);
  const given = values
    ? values.map(typeOf)
    : schema.type === undefined
      ? [...typeNames]
      : [schema.type].flat();
  const types = given as TypeName[];
  return types.includes('number') ? [...types, 'integer'] : types;
}

function valuesOf(schema: Record<string, unknown>): readonly unknown[] | undefined {
  if (Array.isArray(schema.enum)) return schema.enum;
  return schema.const === undefined ? undefined : [schema.const];
}

/** Names that both require. */
function requiredIn(a: Record<string, unknown>, b: Record<string, unknown>): string[] {
  const [own, other] = [a.required, b.required];
  if (!Array.isArray(own) || !Array.isArray(other)) return [];
  return own.filter((name) => other.includes(name)) as string[];
}

function propertyOf(schema: Record<string, unknown>, name: string): Schema | undefined {
  const properties = schema.properties;
  const isNamed = isSchemaObject(properties) && Object.hasOwn(properties, name);
  return isNamed ? (properties[name] as Schema) : undefined;
}
