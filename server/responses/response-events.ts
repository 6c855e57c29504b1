import type { Usage } from '../../engine/index.js';
import type { ApiError } from '../openai/errors.js';
import { newId } from '../openai/ids.js';
import { chatLogprobs } from '../openai/logprobs.js';
import { PieceStream } from '../stream-pieces.js';
import type { AnswerEvent, ToolCallDelta } from '../tools/tool-call-events.js';
import { type FunctionCallItem, type Item, type MessageItem, outputText } from './items.js';
import type { PreparedResponse } from './prepared.js';
import { responseUsage } from './usage.js';

/** An event of a response's stream; the fields beside these depend on the type. */
export interface ResponseEvent {
  readonly type: string;
  readonly sequence_number: number;
  readonly [field: string]: unknown;
}

/** The response as a client sees it. */
export interface ResponseResource {
  readonly id: string;
  readonly object: 'response';
  readonly status: 'in_progress' | 'completed' | 'incomplete' | 'failed';
  readonly output: readonly Item[];
  readonly [field: string]: unknown;
}

/** Turns the engine's events into those of one response, numbered, and holds the response as it grows. */
export class ResponseEvents {
  readonly #pieces: PieceStream;
  readonly #createdAt = Math.floor(Date.now() / 1000);
  #sequenceNumber = 0;
  #message: OpenMessage | undefined;
  #call: OpenCall | undefined;
  readonly #output: Item[] = [];
  #finishReason = 'stop';

  constructor(
    readonly id: string,
    private readonly model: string,
    private readonly prepared: PreparedResponse,
    /** Whether it will be kept, which a server without a store does not. */
    private readonly stored: boolean,
  ) {
    this.#pieces = new PieceStream(prepared, prepared.prompts[0]!, 0);
  }

  /** Of one step of the engine. What comes first says that the response was created. */
  next(events: readonly AnswerEvent[]): ResponseEvent[] {
    return this.#pieces.next(events).flatMap(({ text, toolCall, finishReason, logprobs }) => {
      const begin = this.#begin();
      const shown = logprobs ? chatLogprobs(logprobs) : [];
      if (toolCall) return [...begin, ...this.#endMessage([]), ...this.#callDelta(toolCall)];
      if (finishReason === null) return [...begin, ...this.#beginMessage(), this.#delta(text, shown)];
      this.#finishReason = finishReason;
      // An answer that says nothing is an empty message.
      const message = this.#output.length === 0 ? this.#beginMessage() : [];
      return [...begin, ...this.#endCall('incomplete'), ...message, ...this.#endMessage(shown)];
    });
  }

  /** The last event, and the response as it has become. */
  closing(usage: Usage): { event: ResponseEvent; response: ResponseResource } {
    const incomplete = this.#finishReason === 'length';
    const response = this.#resource({
      status: incomplete ? 'incomplete' : 'completed',
      usage: responseUsage(usage),
      ...(incomplete
        ? { incomplete_details: { reason: 'max_output_tokens' } }
        : { completed_at: Math.floor(Date.now() / 1000) }),
    });
    return { event: this.#event(`response.${response.status}`, { response }), response };
  }

  /** The last event of a response that could not go on: what was written of it is incomplete. */
  failure({ message, type, details }: ApiError): { event: ResponseEvent; response: ResponseResource } {
    for (const open of [this.#message, this.#call]) {
      if (open) this.#output[open.index] = open.item('incomplete');
    }
    const response = this.#resource({ status: 'failed', error: { code: details.code ?? type, message } });
    return { event: this.#event('response.failed', { response }), response };
  }

  #begin(): ResponseEvent[] {
    if (this.#sequenceNumber > 0) return [];
    const response = this.#resource({ status: 'in_progress' });
    return ['response.created', 'response.in_progress'].map((type) => this.#event(type, { response }));
  }

  #beginMessage(): ResponseEvent[] {
    if (this.#message) return [];
    const message = new OpenMessage(this.#output.length);
    this.#message = message;
    const item = { ...message.item('in_progress'), content: [] };
    this.#output.push(item);
    return [
      this.#event('response.output_item.added', { output_index: message.index, item }),
      this.#event('response.content_part.added', { ...message.place, part: outputText('') }),
    ];
  }

  #delta(text: string, logprobs: readonly object[]): ResponseEvent {
    const message = this.#message!;
    message.add(text, logprobs);
    return this.#event('response.output_text.delta', { ...message.place, delta: text, logprobs });
  }

  #endMessage(logprobs: readonly object[]): ResponseEvent[] {
    const message = this.#message;
    if (!message) return [];
    message.add('', logprobs);
    this.#message = undefined;
    const item = message.item(this.#finishReason === 'length' ? 'incomplete' : 'completed');
    this.#output[message.index] = item;
    const { text } = message;
    return [
      this.#event('response.output_text.done', { ...message.place, text, logprobs: message.logprobs }),
      this.#event('response.content_part.done', { ...message.place, part: item.content[0] }),
      this.#event('response.output_item.done', { output_index: message.index, item }),
    ];
  }

  #callDelta(delta: ToolCallDelta): ResponseEvent[] {
    if (delta.type === 'end') return this.#endCall('completed');
    if (delta.type === 'begin') {
      const call = new OpenCall(this.#output.length, delta);
      this.#call = call;
      const item = call.item('in_progress');
      this.#output.push(item);
      return [this.#event('response.output_item.added', { output_index: call.index, item })];
    }
    const call = this.#call!;
    call.arguments += delta.text;
    return [this.#event('response.function_call_arguments.delta', { ...call.place, delta: delta.text })];
  }

  #endCall(status: FunctionCallItem['status']): ResponseEvent[] {
    const call = this.#call;
    if (!call) return [];
    this.#call = undefined;
    const item = call.item(status);
    this.#output[call.index] = item;
    const { name, arguments: json } = item;
    return [
      this.#event('response.function_call_arguments.done', { ...call.place, name, arguments: json }),
      this.#event('response.output_item.done', { output_index: call.index, item }),
    ];
  }

  #event(type: string, fields: object): ResponseEvent {
    return { type, sequence_number: this.#sequenceNumber++, ...fields };
  }

  #resource(state: { status: ResponseResource['status']; [field: string]: unknown }): ResponseResource {
    return {
      id: this.id,
      object: 'response',
      created_at: this.#createdAt,
      completed_at: null,
      error: null,
      incomplete_details: null,
      model: this.model,
      output: [...this.#output],
      usage: null,
      ...this.prepared.settings,
      store: this.stored,
      ...state,
    };
  }
}

/** The message that is being written. */
class OpenMessage {
  readonly #id = newId('msg_');
  text = '';
  readonly logprobs: object[] = [];

  constructor(readonly index: number) {}

  get place(): object {
    return { item_id: this.#id, output_index: this.index, content_index: 0 };
  }

  add(text: string, logprobs: readonly object[]): void {
    this.text += text;
    this.logprobs.push(...logprobs);
  }

  item(status: MessageItem['status']): MessageItem {
    const content = [outputText(this.text, this.logprobs)];
    return { type: 'message', id: this.#id, status, role: 'assistant', content };
  }
}

/** The call that is being written. */
class OpenCall {
  readonly #id = newId('fc_');
  arguments = '';

  constructor(
    readonly index: number,
    private readonly called: { readonly id: string; readonly name: string },
  ) {}

  get place(): object {
    return { item_id: this.#id, output_index: this.index };
  }

  item(status: FunctionCallItem['status']): FunctionCallItem {
    const { id: call_id, name } = this.called;
    return { type: 'function_call', id: this.#id, status, call_id, name, arguments: this.arguments };
  }
}
