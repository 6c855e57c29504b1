import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileGrammar, InvalidGrammar } from '../../../engine/index.js';
import { accepts } from '../../support/table-matcher.js';
import { haveSharedData, sharedJson, sharedPath, titled } from '../model/shared-data.js';

const compile = (schema: unknown, lenient = false) =>
  compileGrammar({ type: 'schema', schema, lenient, param: 'schema' }).tables;

function refusal(schema: unknown): { message: string; param: string | undefined } {
  try {
    compile(schema);
  } catch (error) {
    if (error instanceof InvalidGrammar) return { message: error.message, param: error.param };
    throw error;
  }
  throw new Error('it was compiled');
}

interface SuiteGroup {
  readonly description: string;
  readonly schema: unknown;
  readonly tests: readonly { description: string; data: unknown; valid: boolean }[];
}

const suite = 'json/JSON-Schema-Test-Suite/tests/draft2020-12';

describe(titled('the JSON Schema test suite'), () => {
  it.skipIf(!haveSharedData)('has no invalid value accepted, and few valid ones refused', () => {
    const files = readdirSync(sharedPath(suite), { recursive: true, encoding: 'utf8' });
    let compiled = 0;
    let valid = 0;
    let accepted = 0;
    for (const file of files.filter((name) => name.endsWith('.json'))) {
      for (const { description, schema, tests } of sharedJson<SuiteGroup[]>(path.join(suite, file))) {
        let tables: ReturnType<typeof compile>;
        try {
          tables = compile(schema);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidGrammar);
          continue;
        }
        compiled++;
        for (const test of tests) {
          const isAccepted = accepts(tables, JSON.stringify(test.data));
          if (!test.valid) expect(isAccepted, `${file}: ${description}: ${test.description}`).toBe(false);
          if (test.valid) valid++;
          if (test.valid && isAccepted) accepted++;
        }
      }
    }
    expect(compiled).toBeGreaterThan(100);
    // The others have properties in another order, or such as the schema does not name.
    expect(accepted / valid).toBeGreaterThan(0.8);
  });
});

const object = (properties: object, required: readonly string[] = [], more: object = {}) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
  ...more,
});
const two = { a: { type: 'integer' }, b: { type: 'boolean' } };

describe('a JSON schema', () => {
  it.each<[string, unknown, readonly string[], readonly string[]]>([
    [
      'properties in order',
      object(two, ['a', 'b']),
      ['{"a":1,"b":true}', '{ "a": 1, "b": false }'],
      ['{"b":true,"a":1}', '{"a":1}'],
    ],
    [
      'optional ones',
      object(two, ['b']),
      ['{"b":true}', '{"a":1,"b":true}'],
      ['{}', '{"a":1}', '{,"b":true}'],
    ],
    ['none required', object(two), ['{}', '{"a":1}', '{"b":true}'], ['{"a":1,}', '{"c":1}']],
    ['at least one', object(two, [], { minProperties: 1 }), ['{"a":1}', '{"b":true}'], ['{}']],
    [
      'space that goes on is none',
      object(two),
      ['{\n    "a": 1,\n    "b": true\n}'],
      ['{   "a":1}', ' {"a":1}', '{"a":1} '],
    ],
    [
      'a dictionary',
      { type: 'object', additionalProperties: { type: 'integer' } },
      ['{}', '{"x":1,"y":2}'],
      ['{"x":"1"}'],
    ],
    [
      'others beside named ones',
      object({ a: { type: 'null' } }, ['a'], { additionalProperties: { type: 'integer' } }),
      ['{"a":null}', '{"a":null,"ab":1,"":2}'],
      ['{"a":null,"a":1}', '{"a":null,"b":null}'],
    ],
    ['required without a schema', { type: 'object', required: ['x'] }, ['{"x":[]}'], ['{}']],
    [
      'counted items',
      { type: 'array', items: { type: 'null' }, minItems: 2, maxItems: 3 },
      ['[null,null]', '[null, null, null]'],
      ['[]', '[null]', '[null,null,null,null]'],
    ],
    [
      'first items',
      { type: 'array', prefixItems: [{ const: 1 }, { const: 2 }], items: { const: 3 } },
      ['[]', '[1]', '[1,2]', '[1,2,3,3]'],
      ['[2]', '[1,3]', '[,2]'],
    ],
    [
      'first items alone',
      { type: 'array', prefixItems: [{ const: 1 }], items: false, minItems: 1 },
      ['[1]'],
      ['[]', '[1,1]'],
    ],
    [
      'lengths in characters',
      { type: 'string', minLength: 2, maxLength: 3 },
      ['"ab"', '"äö€"', '"\\n\\u00e4"', '"😀😀"'],
      ['"a"', '"abcd"', '"\\ud83d\\ude00"'],
    ],
    [
      'values',
      { enum: ['a"b', 1.5, null, { x: [1] }] },
      ['"a\\"b"', '1.5', 'null', '{"x":[1]}'],
      ['1', '"a'],
    ],
    ['values of a type', { type: 'string', enum: ['a', 1] }, ['"a"'], ['1']],
    ['one of several types', { type: ['integer', 'null'] }, ['12', 'null', '-3'], ['1.5', '"1"']],
    ['nullable', { type: 'boolean', nullable: true }, ['null', 'true'], ['1']],
    [
      'whole numbers between',
      { type: 'integer', minimum: -12, exclusiveMaximum: 120 },
      ['-12', '-3', '0', '7', '119'],
      ['-13', '120', '007', '1.0', '1000'],
    ],
    [
      'limits of draft 4, together with others',
      {
        type: 'integer',
        minimum: 3,
        exclusiveMinimum: true,
        maximum: 20,
        exclusiveMaximum: false,
        allOf: [
          { exclusiveMinimum: 2 },
          { minimum: 1 },
          { maximum: 9, exclusiveMaximum: true },
          { maximum: 15 },
        ],
      },
      ['4', '8'],
      ['2', '3', '9', '15', '20'],
    ],
    [
      'an inclusive limit above the exclusive one of draft 4',
      { type: 'integer', allOf: [{ minimum: 3, exclusiveMinimum: true }, { minimum: 7 }, { maximum: 9 }] },
      ['7', '9'],
      ['4', '6', '10'],
    ],
    [
      'references by name',
      object({ a: { $ref: '#leaf' }, b: { $ref: '#tilde%7E' }, c: { $ref: '#enum' } }, ['a'], {
        $defs: {
          leaf: { $anchor: 'leaf', type: 'array', items: { $ref: '#leaf' } },
          'a/~b': { $anchor: 'tilde~', type: 'integer' },
          enum: { $anchor: 'enum', enum: [{ $anchor: 'leaf' }] },
          later: { $anchor: 'leaf', type: 'null' },
        },
      }),
      ['{"a":[[],[[]]],"b":12}', '{"a":[],"c":{"$anchor":"leaf"}}'],
      ['{"a":null}', '{"a":[1]}', '{"a":[],"b":"x"}'],
    ],
    ['a pattern', { type: 'string', pattern: '^[a-c]+-\\d{2}$' }, ['"ab-12"'], ['"ab-1"', '"xab-12"', '""']],
    [
      'a pattern anywhere',
      { type: 'string', pattern: 'a"|\\\\$' },
      ['"xa\\"y"', '"x\\\\"'],
      ['"xa"', '"a\\\\b"'],
    ],
    [
      'a date and time',
      { type: 'string', format: 'date-time' },
      ['"2024-02-28T23:59:59Z"', '"1999-12-31T00:00:00.5+02:00"'],
      ['"2024-13-01T00:00:00Z"', '"2024-04-31T00:00:00Z"', '"x"'],
    ],
    [
      'a uuid',
      { type: 'string', format: 'uuid' },
      ['"123e4567-e89b-12d3-a456-426614174000"'],
      ['"123e4567"'],
    ],
    [
      'any of',
      { anyOf: [{ type: 'integer' }, object({ a: { type: 'null' } }, ['a'])] },
      ['1', '{"a":null}'],
      ['null'],
    ],
    [
      'any of, beside others',
      { type: 'object', properties: two, anyOf: [{ required: ['a'] }, { required: ['b'] }] },
      ['{"a":1}', '{"b":true}', '{"a":1,"b":true}'],
      ['{}'],
    ],
    [
      'one of, told apart by a value',
      { oneOf: ['x', 'y'].map((kind) => object({ kind: { const: kind } }, ['kind'])) },
      ['{"kind":"x"}', '{"kind":"y"}'],
      ['{"kind":"z"}'],
    ],
    [
      'all of',
      {
        allOf: [object({ a: { type: 'integer', minimum: 3 } }, ['a']), { properties: { a: { maximum: 5 } } }],
      },
      ['{"a":4}'],
      ['{"a":2}', '{"a":6}'],
    ],
    [
      'all of, each with notes of its own',
      {
        deprecated: false,
        allOf: [
          object({ a: { type: 'integer', 'x-order': 1 } }, ['a'], { example: { a: 1 }, deprecated: true }),
          { properties: { a: { minimum: 2, 'x-order': 2 } }, example: { a: 2 }, $defs: { b: {} } },
        ],
      },
      ['{"a":2}'],
      ['{"a":1}'],
    ],
    [
      'a reference to itself',
      { type: 'object', properties: { next: { $ref: '#' } }, additionalProperties: false },
      ['{}', '{"next":{"next":{}}}'],
      ['{"next":1}'],
    ],
    [
      'definitions',
      {
        $ref: '#/$defs/a~1b',
        $defs: { 'a/b': { type: 'array', items: { $ref: '#/$defs/c' } }, c: { type: 'integer' } },
      },
      ['[1,2]'],
      ['[null]'],
    ],
    [
      'no keyword that restricts',
      { title: 'x', 'x-own': 1 },
      ['{"a":[1,"x",null,{"b":1.5e-3}]}', '"x"'],
      ['{"a"}', "{'a':1}"],
    ],
  ])('is followed: %s', (_, schema, good, bad) => {
    const tables = compile(schema);
    for (const text of good) expect([text, accepts(tables, text)]).toEqual([text, true]);
    for (const text of bad) expect([text, accepts(tables, text)]).toEqual([text, false]);
  });

  it.each<[unknown, string, string]>([
    [
      { type: 'object', properties: { a: { type: 'strin' } } },
      'there is no type "strin"',
      'schema.properties.a.type',
    ],
    [{ properties: { a: { not: {} } } }, "'not' is not supported", 'schema.properties.a.not'],
    [
      { items: { uniqueItems: true, type: 'array' } },
      "'uniqueItems' is not supported",
      'schema.items.uniqueItems',
    ],
    [{ multipleOf: 0.1, type: 'number' }, "'multipleOf' other than 1", 'schema.multipleOf'],
    [{ allOf: [{ not: { const: 1 } }, { not: { const: 2 } }] }, "'not' is not supported", 'schema.not'],
    [{ allOf: [{ pattern: 'a' }, { pattern: 'b' }] }, "'pattern' occurs twice", 'schema'],
    [{ oneOf: [{ minimum: 1 }, { maximum: 3 }] }, 'cannot be ruled out: use anyOf', 'schema.oneOf'],
    [{ $defs: { a: { pattern: '(?=x)' } }, $ref: '#/$defs/a' }, 'looking ahead', 'schema.$defs.a.pattern'],
    [{ pattern: '(' }, 'Invalid regular expression', 'schema.pattern'],
    [{ format: 'iri' }, 'the format "iri"', 'schema.format'],
    [{ format: 'constructor' }, 'the format "constructor"', 'schema.format'],
    [{ format: '__proto__' }, 'the format "__proto__"', 'schema.format'],
    [{ $ref: '#/nope' }, "'#/nope' is not there", 'schema.$ref'],
    [{ $ref: 'https://example.org/x' }, 'only references within the schema are', 'schema.$ref'],
    [{ $ref: '#nope' }, "'#nope' is not there", 'schema.$ref'],
    [{ enum: [{ $anchor: 'a' }], $ref: '#a' }, "'#a' is not there", 'schema.$ref'],
    [{ minLength: -1 }, 'expected a whole number', 'schema.minLength'],
    [{ minimum: '1' }, 'expected a number', 'schema.minimum'],
    [{ anyOf: [] }, 'at least one schema', 'schema.anyOf'],
    [{ allOf: [3] }, 'expected a schema', 'schema.allOf.0'],
    [{ properties: [] }, 'expected an object', 'schema.properties'],
    [12, 'expected a schema', 'schema'],
    [false, 'nothing fits', 'schema'],
    [{ type: 'integer', minimum: 3, maximum: 2 }, 'nothing fits', 'schema'],
    [{ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, 'never come to an end', 'schema'],
    [{ $ref: '#' }, 'never come to an end', 'schema'],
    [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, 'left recursion', 'schema'],
  ])('is refused with the place of the fault: %j', (schema, message, param) => {
    const refused = refusal(schema);
    expect(refused.message).toContain(message);
    expect(refused.param).toBe(param);
  });

  it.each(['constructor', 'toString', '__proto__'])(
    'takes %s, which every object has, for what it is in the schema alone',
    (name) => {
      const named = (value: unknown): unknown =>
        JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`);
      const only = (value: unknown) => object(named(value) as object, [name]);
      const answers = [1, 3, null].map((value) => `{${JSON.stringify(name)}:${value}}`);
      const accepted = (schema: unknown) => answers.map((answer) => accepts(compile(schema), answer));

      const inBoth = {
        allOf: [only({ type: 'integer', minimum: 2 }), { properties: named({ maximum: 5 }) }],
      };
      expect(accepted(inBoth)).toEqual([false, true, false]);
      const inOne = {
        allOf: [only({ type: 'integer' }), { properties: { a: {} }, additionalProperties: { minimum: 2 } }],
      };
      expect(accepted(inOne)).toEqual([false, true, false]);
      const asKeyword = { allOf: [only({ type: 'integer' }), { ...(named(1) as object), maxProperties: 1 }] };
      expect(accepted(asKeyword)).toEqual([true, true, false]);
      const apart = { oneOf: [{ const: 1 }, { const: null }].map((value) => only(value)) };
      expect(accepted(apart)).toEqual([true, false, true]);
      const notApart = {
        oneOf: [{ required: [name] }, only({ type: 'integer' })].map((one) => ({ type: 'object', ...one })),
      };
      expect(refusal(notApart).message).toContain('cannot be ruled out');
    },
  );

  it('may ask for long texts', () => {
    const tables = compile({ type: 'string', minLength: 3000, maxLength: 3001 });
    expect([2999, 3000, 3001, 3002].map((length) => accepts(tables, `"${'x'.repeat(length)}"`))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  it('is refused where it is nested too deep, or takes too much to write out', () => {
    let deep: unknown = { type: 'null' };
    for (let i = 0; i < 100; i++) deep = { type: 'array', items: deep };
    expect(refusal(deep).message).toContain('nested');
    const wide = Array.from({ length: 60 }, (_, i) => [`p${i}`, { type: 'string', maxLength: 5000 }]);
    expect(refusal({ properties: Object.fromEntries(wide) }).message).toContain('too large');
  });

  it('leaves to the model what cannot be enforced, where it is lenient', () => {
    const schema = object(
      { a: { type: 'array', uniqueItems: true, items: { type: 'string', format: 'iri' } } },
      ['a'],
      { not: {} },
    );
    expect(accepts(compile(schema, true), '{"a":["x"]}')).toBe(true);
    expect(accepts(compile(schema, true), '{"a":[1]}')).toBe(false);
  });

  it.each<[string, readonly object[], string]>([
    ['two patterns', [{ pattern: '^a' }, { pattern: 'b$' }], '"ab"'],
    ['two lists of choices', [{ anyOf: [{ minLength: 1 }] }, { anyOf: [{ maxLength: 3 }, {}] }], '"ab"'],
    ['two that are not to be', [{ not: { const: 'a' } }, { not: { const: 'b' } }], '"ab"'],
    ['two kinds of items', [{ prefixItems: [{ const: 1 }] }, { items: { type: 'integer' } }], '[1,2]'],
  ])('leaves to the model what cannot be said together, where it is lenient: %s', (_, allOf, answer) => {
    const tables = compile(object({ a: { type: ['string', 'array'], allOf } }, ['a']), true);
    expect(accepts(tables, `{"a":${answer}}`)).toBe(true);
    expect(accepts(tables, '{"a":null}')).toBe(false);
  });
});
