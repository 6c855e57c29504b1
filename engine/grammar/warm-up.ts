import { compileGrammar } from './compile.js';
import { knownRules } from './known-rules.js';
import { formatNames } from './schema/formats.js';
import type { GrammarSource } from './source.js';

/**
 * JavaScript's own compiler makes fast what has run often, so schemas are compiled before anybody waits for one, and the
 * rules that they have in common. The caller decides when to go on.
 */
export function* warmUp(): Generator<void> {
  knownRules();
  yield;
  for (let round = 0; round < rounds; round++) {
    for (const source of sources) {
      compileGrammar(source);
      yield;
    }
  }
}

/** Three take half of the time away from what comes then, and twenty no more. */
const rounds = 3;

const schema = (value: unknown): GrammarSource => ({ type: 'schema', schema: value, lenient: true });

/** What schemas are made of, each with most of what it may say. */
const sources: readonly GrammarSource[] = [
  schema({
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 12 },
      kind: { enum: ['one', 'two', 3, null] },
      nested: { type: ['object', 'null'], properties: { flag: { type: 'boolean' } }, required: ['flag'] },
    },
    required: ['name'],
    additionalProperties: { type: 'integer' },
  }),
  schema({
    type: 'array',
    prefixItems: [{ const: 'first' }, { $ref: '#/$defs/leaf' }],
    items: { anyOf: [{ $ref: '#/$defs/leaf' }, { type: 'array', items: { type: 'number' }, maxItems: 4 }] },
    minItems: 1,
    $defs: { leaf: { type: 'object', properties: { next: { $ref: '#/$defs/leaf' } } } },
  }),
  schema({ type: 'integer', minimum: -12, exclusiveMaximum: 1234 }),
  schema({ maximum: 3.5 }),
  schema({ type: 'string', pattern: '^[a-z]+(-\\d{2,4})?$|\\s' }),
  ...formatNames.map((format) => schema({ type: 'string', format })),
  schema({
    allOf: [
      { type: 'object', properties: { a: { minimum: 1 } }, required: ['a'] },
      { properties: { a: { maximum: 5 }, b: { type: 'string' } }, additionalProperties: { type: 'string' } },
    ],
  }),
  schema({
    oneOf: ['x', 'y'].map((tag) => ({
      type: 'object',
      properties: { tag: { const: tag }, value: {} },
      required: ['tag'],
      additionalProperties: false,
    })),
  }),
  schema({ minProperties: 1, required: ['key', 'other'], nullable: true }),
];
