import { z } from 'zod';

const window = z.int().min(1).optional();

/**
 * The frames of `WS /v1/stream`: many requests in flight on one socket, told apart by an id that the client chooses.
 *
 * A client says `generate` with the body of a chat or text completion, `cancel` to end a request, and, if it gave a
 * `window`, `ack` for the deltas it has taken: with `window` of them unanswered its request pauses, and no other does.
 * The server says `delta` (text of a choice), `done` and `error`; the last two end a request. Of a `session` the request
 * may be followed by others, each an `update` that goes on behind all before it, until its `end`.
 */
export const ClientFrame = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('generate'),
    id: z.string().min(1).max(128),
    /** The body as `POST /v1/chat/completions` takes it, or with `prompt` as `/v1/completions` does. */
    request: z.looseObject({}),
    window,
    session: z.boolean().optional(),
  }),
  z.strictObject({
    type: z.literal('update'),
    id: z.string(),
    /** As of `generate`; its prompt or messages are what comes next. */
    request: z.looseObject({}),
    window,
  }),
  z.strictObject({ type: z.literal('end'), id: z.string() }),
  z.strictObject({ type: z.literal('cancel'), id: z.string() }),
  z.strictObject({ type: z.literal('ack'), id: z.string(), count: z.int().min(1) }),
]);
export type ClientFrame = z.output<typeof ClientFrame>;

export type ServerFrame =
  | {
      readonly type: 'delta';
      readonly id: string;
      readonly choice: number;
      readonly text: string;
      readonly tool_calls?: readonly object[];
      readonly logprobs?: object;
    }
  | {
      readonly type: 'done';
      readonly id: string;
      readonly finish_reasons: readonly string[];
      readonly usage: object;
    }
  | { readonly type: 'error'; readonly id: string | null; readonly error: object };
