import { z } from 'zod';
import { TextFormat } from '../grammar/response-format.js';
import { imageDetails } from '../images/image-source.js';
import { sharedFields } from '../openai/schemas.js';
import { responseToolFields } from '../tools/schemas.js';

/** The bodies and items of the Responses API, as OpenAI's document and Open Responses have them. */

const itemStatus = z.enum(['in_progress', 'completed', 'incomplete']);
const itemId = z.string().min(1).max(128);
/** What a message of the assistant is to its turn. */
export const messagePhase = z.enum(['commentary', 'final_answer']);

/** Of any type; those that are not text are refused by name where the item becomes a message. */
const contentPart = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  refusal: z.string().optional(),
  image_url: z.string().nullish(),
  file_id: z.string().nullish(),
  detail: z.enum(imageDetails).nullish(),
});

const message = z.looseObject({
  type: z.literal('message'),
  id: itemId.nullish(),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: z.union([z.string(), z.array(contentPart)]),
  phase: messagePhase.nullish(),
  status: itemStatus.nullish(),
});

const functionCall = z.looseObject({
  type: z.literal('function_call'),
  id: itemId.nullish(),
  call_id: z.string().min(1).max(64),
  name: z.string().regex(/^[\w-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -'),
  arguments: z.string(),
  status: itemStatus.nullish(),
});

const functionCallOutput = z.looseObject({
  type: z.literal('function_call_output'),
  id: itemId.nullish(),
  call_id: z.string().min(1).max(64),
  output: z.union([z.string(), z.array(contentPart)]),
  status: itemStatus.nullish(),
});

/** What `POST /v1/responses/compact` made of a conversation. */
const compaction = z.looseObject({
  type: z.literal('compaction'),
  id: itemId.nullish(),
  encrypted_content: z.string(),
});

const itemReference = z.looseObject({ type: z.literal('item_reference'), id: itemId });

/** The type may be left out of a message, which has a role, and of a reference, which has nothing but an id. */
function withType(item: unknown): unknown {
  if (typeof item !== 'object' || item === null) return item;
  const { type, ...rest } = item as Record<string, unknown>;
  if (type !== undefined && type !== null) return item;
  return { ...rest, type: 'role' in rest ? 'message' : 'item_reference' };
}

const supported = ['message', 'function_call', 'function_call_output', 'compaction', 'item_reference'];

export const InputItem = z.preprocess(
  withType,
  z.discriminatedUnion('type', [message, functionCall, functionCallOutput, compaction, itemReference], {
    error: ({ input }) => {
      const { type } = (input ?? {}) as { type?: unknown };
      return `items of type '${String(type)}' are not supported; there are ${supported.join(', ')}`;
    },
  }),
);
export type InputItem = z.output<typeof InputItem>;

const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= 16, 'expected at most 16 keys');

export const ResponseBody = z.looseObject({
  ...sharedFields,
  model: z.string().nullish(),
  input: z.union([z.string(), z.array(InputItem)]).nullish(),
  instructions: z.string().nullish(),
  previous_response_id: z.string().max(128).nullish(),
  store: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_obfuscation: z.boolean().nullish() }).nullish(),
  metadata: metadata.nullish(),
  include: z.array(z.string()).nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  max_tool_calls: z.int().min(1).nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  truncation: z.enum(['auto', 'disabled']).nullish(),
  ...responseToolFields,
  text: z
    .looseObject({
      format: TextFormat.nullish(),
      verbosity: z.enum(['low', 'medium', 'high']).nullish(),
    })
    .nullish(),
  reasoning: z.looseObject({ effort: z.string().nullish(), summary: z.string().nullish() }).nullish(),
  background: z.boolean().nullish(),
  service_tier: z.string().nullish(),
  safety_identifier: z.string().max(64).nullish(),
  prompt_cache_key: z.string().max(64).nullish(),
});
export type ResponseBody = z.output<typeof ResponseBody>;

export const CompactBody = z.looseObject({
  model: z.string(),
  input: ResponseBody.shape.input,
  instructions: ResponseBody.shape.instructions,
  previous_response_id: ResponseBody.shape.previous_response_id,
  prompt_cache_key: ResponseBody.shape.prompt_cache_key,
});
export type CompactBody = z.output<typeof CompactBody>;

/** What a client sends on `WS /v1/responses`: the body with a type, and without the fields of HTTP. */
export const ResponseFrame = ResponseBody.extend({
  type: z.literal('response.create', { error: "the only frame is 'response.create'" }),
});
