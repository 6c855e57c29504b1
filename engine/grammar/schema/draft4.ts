import type { SchemaObject } from './keywords.js';

const limits = [
  ['minimum', 'exclusiveMinimum'],
  ['maximum', 'exclusiveMaximum'],
] as const;

/** The same as later drafts write it: in draft 4 `exclusiveMinimum` was true or false, and spoke of the `minimum` beside it. */
export function fromDraft4(schema: SchemaObject): SchemaObject {
  let modern = schema;
  for (const [inclusive, exclusive] of limits) {
    const { [inclusive]: limit, [exclusive]: isExclusive, ...others } = modern;
    if (isExclusive === true && limit !== undefined) modern = { ...others, [exclusive]: limit };
    else if (typeof isExclusive === 'boolean') {
      modern = { ...others, ...(limit !== undefined && { [inclusive]: limit }) };
    }
  }
  return modern;
}
