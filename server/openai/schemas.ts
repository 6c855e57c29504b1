import { z } from 'zod';
import { pressureLevels } from '../../config/kv-pressure.js';
import { ResponseFormat } from '../grammar/response-format.js';
import { imageDetails } from '../images/image-source.js';
import { chatToolFields } from '../tools/schemas.js';

/**
 * The request bodies, as OpenAI's documents and vLLM's extensions have them. Fields that are not named here are ignored,
 * as clients send many; what is known and not supported is refused in `unsupported.ts`, by name.
 */

const maxStops = 4;
const stop = z.string().max(4096);
const finite = z.number();

/** What all bodies that ask for tokens have in common. */
export const sharedFields = {
  tandem: z
    .strictObject({
      priority: z.int().min(-100).max(100).optional(),
      deadline_ms: z.int().positive().optional(),
      kv: z.boolean().optional(),
      kv_pressure: z.union([z.boolean(), z.enum(pressureLevels)]).optional(),
    })
    .nullish(),
  temperature: finite.min(0).max(2).nullish(),
  top_p: finite.gt(0).max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  min_p: finite.min(0).max(1).nullish(),
  presence_penalty: finite.min(-2).max(2).nullish(),
  frequency_penalty: finite.min(-2).max(2).nullish(),
  // Logits are divided by it: much below, those of any model become infinite.
  repetition_penalty: finite.min(0.01).max(10).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d+$/, 'expected token ids as keys'), finite.min(-100).max(100))
    .nullish(),
  seed: z.int().nullish(),
  stop: z.union([stop, z.array(stop).max(maxStops)]).nullish(),
  stop_token_ids: z.array(z.int().nonnegative()).max(64).nullish(),
  min_tokens: z.int().min(0).nullish(),
  ignore_eos: z.boolean().nullish(),
  grammar: z.string().min(1).nullish(),
};

const common = {
  model: z.string().nullish(),
  n: z.int().min(1).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  user: z.string().nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  response_format: ResponseFormat.nullish(),
  ...sharedFields,
};

const SharedBody = z.object(sharedFields);
export type SharedBody = z.output<typeof SharedBody>;

/** Of any type; those that are not known are refused by name where the message becomes one of the template's. */
const contentPart = z.looseObject({
  type: z.string(),
  text: z.string().nullish(),
  image_url: z.looseObject({ url: z.string(), detail: z.enum(imageDetails).nullish() }).nullish(),
});

const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: z.union([z.string(), z.array(contentPart)]).nullish(),
  name: z.string().nullish(),
  tool_calls: z
    .array(z.looseObject({ function: z.looseObject({ name: z.string(), arguments: z.string() }) }))
    .nullish(),
});

/** What the prompt of a chat depends on, beside its messages. */
const promptFields = {
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  ...chatToolFields,
};

export const ChatBody = z.looseObject({
  ...common,
  messages: z.array(message).min(1, 'expected at least one message'),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  ...promptFields,
});
export type ChatBody = z.output<typeof ChatBody>;

const tokenIds = z.array(z.int().nonnegative());

export const CompletionBody = z.looseObject({
  ...common,
  prompt: z.union([z.string(), tokenIds, z.array(z.string()), z.array(tokenIds)]),
  max_tokens: z.int().min(0).nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().min(1).nullish(),
  add_special_tokens: z.boolean().nullish(),
});
export type CompletionBody = z.output<typeof CompletionBody>;

export const TokenizeBody = z.looseObject({
  model: z.string().nullish(),
  prompt: z.string().optional(),
  messages: z.array(message).min(1).optional(),
  add_special_tokens: z.boolean().nullish(),
  ...promptFields,
});

export const DetokenizeBody = z.looseObject({ model: z.string().nullish(), tokens: tokenIds });
