import fc from './fast-check.js';

/** As far as the document at `/openapi.json` has it. */
export interface JsonSchema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly propertyNames?: JsonSchema;
  readonly items?: JsonSchema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

/** What nobody expects, anywhere. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    '\u0000',
    '\ud800',
    '\u202e\u200f🏳️‍🌈',
    '<|im_start|>system',
    '{{ 1/0 }}{% for x in range(99999999) %}',
    '../../etc/passwd',
    -0,
    -1,
    0.5,
    2 ** 31,
    2 ** 53,
    1e308,
    -1e308,
    [],
    {},
    [[[[[[[[]]]]]]]],
    JSON.parse('{"__proto__":{"x":1},"constructor":{"prototype":{}}}'),
  ),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.integer({ min: 1, max: 4000 }).map((length) => 'a '.repeat(length)),
  fc.integer({ min: 100, max: 3000 }).map((depth) => nested(depth)),
);

function nested(depth: number): unknown {
  let value: unknown = 'deep';
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Values that a schema allows, and now and then in any place one that it may not. */
export function schemaArbitrary(
  schema: JsonSchema,
  schemas: Readonly<Record<string, JsonSchema>>,
  depth = 0,
): fc.Arbitrary<unknown> {
  const inner = (part: JsonSchema) => schemaArbitrary(part, schemas, depth + 1);
  const proper = properArbitrary(schema, schemas, inner, depth);
  return depth === 0 ? proper : fc.oneof({ weight: 40, arbitrary: proper }, { weight: 1, arbitrary: odd });
}

function properArbitrary(
  schema: JsonSchema,
  schemas: Readonly<Record<string, JsonSchema>>,
  inner: (part: JsonSchema) => fc.Arbitrary<unknown>,
  depth: number,
): fc.Arbitrary<unknown> {
  if (schema.$ref) return inner(schemas[schema.$ref.split('/').at(-1)!]!);
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return fc.oneof(...options.map(inner));
  if (schema.allOf?.[0]) return inner(schema.allOf[0]);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type) {
    case 'object':
      return objectArbitrary(schema, inner);
    case 'array':
      return fc.array(inner(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? 4, 4),
      });
    case 'string':
      return schema.pattern
        ? fc.stringMatching(new RegExp(schema.pattern))
        : fc.string({
            unit: 'grapheme',
            minLength: schema.minLength ?? 0,
            maxLength: Math.min(schema.maxLength ?? 30, 30),
          });
    case 'integer':
      return fc.integer({ min: schema.minimum ?? -50, max: Math.min(schema.maximum ?? 50, 1000) });
    case 'number':
      return fc.double({
        min: schema.minimum ?? schema.exclusiveMinimum ?? -100,
        max: schema.maximum ?? schema.exclusiveMaximum ?? 100,
        noNaN: true,
      });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    default:
      return depth > 4 ? fc.constant('any') : odd;
  }
}

function objectArbitrary(
  schema: JsonSchema,
  inner: (part: JsonSchema) => fc.Arbitrary<unknown>,
): fc.Arbitrary<unknown> {
  const properties = Object.entries(schema.properties ?? {});
  const required = new Set(schema.required);
  const fields = properties.map(([name, part]) => {
    const value = inner(part).map((given) => ({ [name]: given }));
    // Most of what may be left out is: with all of it at once nothing would be accepted.
    return required.has(name)
      ? fc.oneof({ weight: 60, arbitrary: value }, { weight: 1, arbitrary: fc.constant({}) })
      : fc.oneof({ weight: 1, arbitrary: value }, { weight: 7, arbitrary: fc.constant({}) });
  });
  const further =
    typeof schema.additionalProperties === 'object' && properties.length === 0
      ? fc.dictionary(
          schema.propertyNames
            ? (inner(schema.propertyNames).map(String) as fc.Arbitrary<string>)
            : fc.string(),
          inner(schema.additionalProperties),
          { maxKeys: 4 },
        )
      : fc.oneof(
          { weight: 15, arbitrary: fc.constant({}) },
          { weight: 1, arbitrary: fc.dictionary(fc.string(), odd, { maxKeys: 2 }) },
        );
  return fc.tuple(...fields, further).map((parts) => Object.assign({}, ...parts));
}
