import { z } from 'zod';
import { messagePhase } from '../responses/schemas.js';

/** What endpoints answer, for the document at `/openapi.json`; tests hold real answers against it. */

export const ErrorAnswer = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

const chatLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
const chatLogprobs = z.object({
  content: z.array(chatLogprob.extend({ top_logprobs: z.array(chatLogprob) })),
  refusal: z.null(),
});

/** What was asked for with `tandem.kv`; `kept` is by layer, under `--kv zip`; `far_tokens` lie in host memory, `dropped_tokens` are those given up. */
const tandemUsage = z
  .object({
    kv: z.object({
      tokens: z.int(),
      bytes: z.int(),
      kept: z.array(z.number().nullable()).optional(),
      far_tokens: z.int().optional(),
      dropped_tokens: z.int().optional(),
    }),
  })
  .optional();

const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  tandem: tandemUsage,
});

const finishReason = z.enum(['stop', 'length', 'tool_calls']);

const head = { id: z.string(), created: z.int(), model: z.string() };

export const ChatCompletion = z.object({
  ...head,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z
          .array(
            z.object({
              id: z.string(),
              type: z.literal('function'),
              function: z.object({ name: z.string(), arguments: z.string() }),
            }),
          )
          .optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage,
});

export const Completion = z.object({
  ...head,
  object: z.literal('text_completion'),
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string(),
      logprobs: z
        .object({
          tokens: z.array(z.string()),
          token_logprobs: z.array(z.number().nullable()),
          top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
          text_offset: z.array(z.int()),
        })
        .nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage,
});

const item = z.looseObject({
  type: z.string(),
  id: z.string(),
  status: z.string().optional(),
  phase: messagePhase.optional(),
});

const responseUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
  tandem: tandemUsage,
});

/** Of the fields that repeat the request only those are named that clients read. */
export const ResponseAnswer = z.looseObject({
  id: z.string(),
  object: z.literal('response'),
  created_at: z.int(),
  completed_at: z.int().nullable(),
  status: z.enum(['in_progress', 'completed', 'incomplete', 'failed']),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.string() }).nullable(),
  model: z.string(),
  output: z.array(item),
  previous_response_id: z.string().nullable(),
  store: z.boolean(),
  usage: responseUsage.nullable(),
});

export const Compaction = z.object({
  id: z.string(),
  object: z.literal('response.compaction'),
  created_at: z.int(),
  output: z.array(item),
  usage: responseUsage,
});

export const ItemList = z.object({
  object: z.literal('list'),
  data: z.array(item),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});

export const DeletedResponse = z.object({
  id: z.string(),
  object: z.literal('response'),
  deleted: z.literal(true),
});

export const Model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.string(),
  max_model_len: z.int(),
  tandem: z.looseObject({
    device: z.looseObject({ kind: z.string(), name: z.string() }),
    weights: z.string(),
    kv: z.object({ precision: z.string(), bytes: z.number() }),
    images: z.object({ types: z.array(z.string()), max_images: z.int(), max_pixels: z.int() }).optional(),
  }),
});

export const ModelList = z.object({ object: z.literal('list'), data: z.array(Model) });

export const Tokens = z.object({ count: z.int(), max_model_len: z.int(), tokens: z.array(z.int()) });
export const Text = z.object({ prompt: z.string() });
export const Document = z.looseObject({ openapi: z.string(), paths: z.record(z.string(), z.unknown()) });
export const Health = z.object({ status: z.literal('ok') });
export const Ready = z.object({ status: z.literal('ready'), model: z.string() });

export const SchedulerReport = z.looseObject({
  policy: z.string(),
  prefillOrder: z.string(),
  constants: z.string(),
  units: z.number(),
  share: z.object({ prefill: z.number(), decode: z.number() }),
  running: z.int(),
  waiting: z.int(),
});

export const AdminState = z.object({
  ready: z.boolean(),
  draining: z.boolean(),
  log_level: z.string(),
  scheduler: SchedulerReport.nullable(),
  keys: z.array(
    z.object({
      name: z.string(),
      requests: z.int(),
      refused: z.int(),
      prompt_tokens: z.int(),
      generated_tokens: z.int(),
      open_sockets: z.int(),
      limits: z.array(z.object({ name: z.string(), limit: z.int(), remaining: z.int() })),
    }),
  ),
});

export const Draining = z.object({ draining: z.literal(true) });
export const LogLevel = z.object({ level: z.string() });
