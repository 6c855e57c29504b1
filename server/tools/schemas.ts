import { z } from 'zod';

const maxTools = 128;

/** A function as chat templates know it. */
const functionFields = {
  name: z.string().regex(/^[\w-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -'),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
};

/** Chat completions put the name in a field of its own; responses do not. */
const choice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.looseObject({
    type: z.string(),
    name: z.string().optional(),
    function: z.looseObject({ name: z.string() }).optional(),
  }),
]);

const common = {
  tool_choice: choice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

/** Chat completions put the function in a field of its own; responses do not. */
export const chatToolFields = {
  ...common,
  tools: z
    .array(z.looseObject({ type: z.string(), function: z.looseObject(functionFields).optional() }))
    .max(maxTools)
    .nullish(),
};

export const responseToolFields = {
  ...common,
  tools: z
    .array(z.looseObject({ type: z.string(), ...functionFields, name: functionFields.name.optional() }))
    .max(maxTools)
    .nullish(),
};

export type ToolChoice = z.output<typeof choice>;
