import type { FinishReason, TokenEvent } from '../../engine/index.js';
import { newId } from '../openai/ids.js';
import type { ToolCallReading } from '../prepare/prepared.js';
import { type ToolCallFormat, toolCallFormats, type WrittenCall } from './tool-call-format.js';
import { type AnswerPart, ToolCallReader } from './tool-call-reader.js';

/** A call as a client sees it. */
export interface ToolCall extends WrittenCall {
  readonly id: string;
  /** Of the calls of its choice. */
  readonly index: number;
}

/** What the front end hears of a prompt: the engine's events, with calls taken out of the text. */
export type AnswerEvent =
  | Exclude<TokenEvent, { type: 'finish' }>
  | (Omit<Extract<TokenEvent, { type: 'finish' }>, 'reason'> & {
      readonly reason: FinishReason | 'tool_calls';
    })
  | { readonly type: 'call'; readonly choice: number; readonly call: ToolCall };

interface Choice {
  readonly reader: ToolCallReader;
  calls: number;
}

/** Turns a prompt's events into those of an answer that may call tools. */
export class ToolCallEvents {
  readonly #format: ToolCallFormat;
  readonly #choices = new Map<number, Choice>();

  constructor(private readonly reading: ToolCallReading) {
    this.#format = toolCallFormats[reading.format];
  }

  next(events: readonly TokenEvent[]): AnswerEvent[] {
    return events.flatMap((event): AnswerEvent[] => {
      if (event.type === 'tokens') {
        const parts = this.#choice(event.choice).reader.push(event.text);
        // The tokens are told of once, with what is shown of their text first.
        return [{ ...event, text: '' }, ...this.#shown(event.choice, parts)];
      }
      if (event.type !== 'finish') return [event];
      const choice = this.#choice(event.choice);
      const rest = this.#shown(event.choice, choice.reader.end());
      const calls = choice.calls > 0 && event.reason === 'stop';
      return [...rest, { ...event, reason: calls ? 'tool_calls' : event.reason }];
    });
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) {
      const { names, single } = this.reading;
      choice = { reader: new ToolCallReader(this.#format, { names: new Set(names), single }), calls: 0 };
      this.#choices.set(index, choice);
    }
    return choice;
  }

  #shown(index: number, parts: readonly AnswerPart[]): AnswerEvent[] {
    const choice = this.#choice(index);
    return parts.map((part) => {
      if ('text' in part) return { type: 'tokens', choice: index, text: part.text, tokens: [] };
      const id = newCallId(this.#format.idLength);
      return { type: 'call', choice: index, call: { ...part.call, id, index: choice.calls++ } };
    });
  }
}

/** Mistral's templates take ids of nine letters and digits only, and refuse the answer to any other. */
function newCallId(length: number): string {
  return length < 20 ? newId('').slice(0, length) : newId('call_').slice(0, 'call_'.length + length);
}
