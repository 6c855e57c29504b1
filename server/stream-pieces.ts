import type { TokenLogprob } from '../engine/index.js';
import { answerTokens, promptTokens } from './echo.js';
import type { Piece } from './openai/wire-format.js';
import type { Prepared, PreparedPrompt } from './prepare/prepared.js';
import type { AnswerEvent, ToolCallDelta } from './tools/tool-call-events.js';

/** Text, or arguments of the call with this number, that comes of one choice in one step. */
interface Joined {
  text: string;
  readonly call: number | undefined;
}

/** Turns a prompt's events into the pieces that a stream shows. */
export class PieceStream {
  /** Tokens whose text is still withheld: their logprobs go with the piece that shows it. */
  readonly #heldLogprobs: TokenLogprob[][];
  readonly #echoed: boolean[];
  #promptTokens: readonly TokenLogprob[] = [];

  constructor(
    private readonly prepared: Prepared,
    private readonly prompt: PreparedPrompt,
    private readonly promptIndex: number,
  ) {
    const { n } = prompt.request;
    this.#heldLogprobs = Array.from({ length: n }, () => []);
    this.#echoed = Array(n).fill(prompt.echo === undefined);
  }

  /** Pieces of all events of one step; text of one choice is joined, and so are the arguments of one call. */
  next(events: readonly AnswerEvent[]): Piece[] {
    const pieces: Piece[] = [];
    const joined = new Map<number, Joined>();
    const flush = (choice: number): void => {
      const last = joined.get(choice);
      joined.delete(choice);
      if (last?.call !== undefined) {
        const delta = { type: 'arguments', index: last.call, text: last.text } as const;
        pieces.push(this.#piece(choice, '', null, delta));
      } else if (last) {
        pieces.push(this.#piece(choice, last.text, null));
      }
    };
    const join = (choice: number, text: string, call?: number): void => {
      if (text === '') return;
      const last = joined.get(choice);
      if (last && last.call === call) {
        last.text += text;
        return;
      }
      flush(choice);
      joined.set(choice, { text, call });
    };
    for (const event of events) {
      if (event.type === 'prompt') this.#promptTokens = promptTokens(event.promptLogprobs, this.prompt.echo!);
      if (event.type === 'tokens') {
        this.#echo(event.choice, pieces);
        if (event.logprobs)
          this.#heldLogprobs[event.choice]!.push(...answerTokens(event.logprobs, this.prompt.echo));
        join(event.choice, event.text);
      }
      if (event.type === 'call') {
        const { choice, delta } = event;
        if (delta.type === 'arguments') {
          join(choice, delta.text, delta.index);
        } else {
          flush(choice);
          pieces.push(this.#piece(choice, '', null, delta));
        }
      }
      if (event.type === 'finish') {
        this.#echo(event.choice, pieces);
        flush(event.choice);
        pieces.push(this.#piece(event.choice, '', event.reason));
      }
    }
    for (const choice of [...joined.keys()]) flush(choice);
    return pieces;
  }

  #echo(choice: number, pieces: Piece[]): void {
    if (this.#echoed[choice]) return;
    this.#echoed[choice] = true;
    this.#heldLogprobs[choice] = [...this.#promptTokens, ...this.#heldLogprobs[choice]!];
    pieces.push(this.#piece(choice, this.prompt.echo!.text, null));
  }

  #piece(choice: number, text: string, finishReason: string | null, toolCall?: ToolCallDelta): Piece {
    const held = this.#heldLogprobs[choice]!;
    // Not every client hears that a call has ended.
    const shows = this.prepared.logprobs >= 0 && held.length > 0 && toolCall?.type !== 'end';
    const logprobs = shows ? held.splice(0) : undefined;
    return {
      index: this.promptIndex * this.prepared.choices + choice,
      text,
      finishReason,
      logprobs,
      ...(toolCall && { toolCall }),
    };
  }
}
