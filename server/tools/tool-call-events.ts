import type { FinishReason, TokenEvent } from '../../engine/index.js';
import { newId } from '../openai/ids.js';
import type { ToolCallReading } from '../prepare/prepared.js';
import type { CallPart } from './read-call.js';
import { type ToolCallFormat, toolCallFormats } from './tool-call-format.js';
import { type AnswerPart, ToolCallReader } from './tool-call-reader.js';

/**
 * What is heard of a call, by its number among the calls of its choice: that it begins, its arguments in pieces, and its
 * end, unless the answer ended first.
 */
export type ToolCallDelta =
  | { readonly type: 'begin'; readonly index: number; readonly id: string; readonly name: string }
  | { readonly type: 'arguments'; readonly index: number; readonly text: string }
  | { readonly type: 'end'; readonly index: number };

/** What the front end hears of a prompt: the engine's events, with calls taken out of the text. */
export type AnswerEvent =
  | Exclude<TokenEvent, { type: 'finish' }>
  | (Omit<Extract<TokenEvent, { type: 'finish' }>, 'reason'> & {
      readonly reason: FinishReason | 'tool_calls';
    })
  | { readonly type: 'call'; readonly choice: number; readonly delta: ToolCallDelta };

interface Choice {
  readonly reader: ToolCallReader;
  begun: number;
  ended: number;
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
      // A call that broke off is not to be made.
      const calls = choice.begun > 0 && choice.ended === choice.begun && event.reason === 'stop';
      return [...rest, { ...event, reason: calls ? 'tool_calls' : event.reason }];
    });
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) {
      const { names, ...how } = this.reading;
      const reader = new ToolCallReader(this.#format, { names: new Set(names), ...how });
      choice = { reader, begun: 0, ended: 0 };
      this.#choices.set(index, choice);
    }
    return choice;
  }

  #shown(index: number, parts: readonly AnswerPart[]): AnswerEvent[] {
    const choice = this.#choice(index);
    return parts.map((part): AnswerEvent => {
      if (part.type === 'text') return { type: 'tokens', choice: index, text: part.text, tokens: [] };
      return { type: 'call', choice: index, delta: this.#delta(choice, part) };
    });
  }

  #delta(choice: Choice, part: CallPart): ToolCallDelta {
    if (part.type === 'call') {
      const id = newCallId(this.#format.idLength);
      return { type: 'begin', index: choice.begun++, id, name: part.name };
    }
    if (part.type === 'end') choice.ended++;
    return { ...part, index: choice.begun - 1 };
  }
}

/** Mistral's templates take ids of nine letters and digits only, and refuse the answer to any other. */
function newCallId(length: number): string {
  return length < 20 ? newId('').slice(0, length) : newId('call_').slice(0, 'call_'.length + length);
}
