import { z } from 'zod';
import type { GrammarPart } from '../../engine/index.js';

const schema = z.union([z.record(z.string(), z.unknown()), z.boolean()]);

const named = {
  name: z.string().regex(/^[\w-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -'),
  description: z.string().nullish(),
  schema: schema.nullish(),
  strict: z.boolean().nullish(),
};

const plain = [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
] as const;

const error = "expected a type: 'text', 'json_object' or 'json_schema'";

/** Chat completions and completions put the schema in a field of its own; responses do not. */
export const ResponseFormat = z.discriminatedUnion(
  'type',
  [...plain, z.looseObject({ type: z.literal('json_schema'), json_schema: z.looseObject(named) })],
  { error },
);
export const TextFormat = z.discriminatedUnion(
  'type',
  [...plain, z.looseObject({ type: z.literal('json_schema'), ...named })],
  { error },
);

/** What an answer of the format has to follow; undefined: nothing. */
export function formatGrammar(
  format: z.output<typeof ResponseFormat> | null | undefined,
): GrammarPart | undefined {
  if (format?.type === 'json_schema') return schemaGrammar(format.json_schema, 'response_format.json_schema');
  return format?.type === 'json_object' ? { type: 'json' } : undefined;
}

/** The same of a response. */
export function textFormatGrammar(
  format: z.output<typeof TextFormat> | null | undefined,
): GrammarPart | undefined {
  if (format?.type === 'json_schema') return schemaGrammar(format, 'text.format');
  return format?.type === 'json_object' ? { type: 'json' } : undefined;
}

function schemaGrammar(
  given: { readonly schema?: unknown; readonly strict?: boolean | null | undefined },
  param: string,
): GrammarPart {
  // Without `strict` nothing is promised, so what cannot be enforced is left to the model.
  return {
    type: 'schema',
    schema: given.schema ?? true,
    lenient: given.strict !== true,
    param: `${param}.schema`,
  };
}
