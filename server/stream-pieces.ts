import type { TokenLogprob } from '../engine/index.js';
import type { Piece } from './openai/wire-format.js';
import type { Prepared, PreparedPrompt } from './prepare/prepared.js';
import type { AnswerEvent, ToolCall } from './tools/tool-call-events.js';

/** Turns a prompt's events into the pieces that a stream shows. */
export class PieceStream {
  readonly #offsets: number[];
  /** Tokens whose text is still withheld: their logprobs go with the piece that shows it. */
  readonly #heldLogprobs: TokenLogprob[][];
  readonly #echoed: boolean[];
  #promptLogprobs: readonly TokenLogprob[] | undefined;

  constructor(
    private readonly prepared: Prepared,
    private readonly prompt: PreparedPrompt,
    private readonly promptIndex: number,
  ) {
    const { n } = prompt.request;
    this.#offsets = Array(n).fill(0);
    this.#heldLogprobs = Array.from({ length: n }, () => []);
    this.#echoed = Array(n).fill(prompt.echoText === '');
  }

  /** Pieces of all events of one step; text of one choice is joined. */
  next(events: readonly AnswerEvent[]): Piece[] {
    const pieces: Piece[] = [];
    const texts = new Map<number, string>();
    const flush = (choice: number): void => {
      const text = texts.get(choice);
      texts.delete(choice);
      if (text) pieces.push(this.#piece(choice, text, null));
    };
    for (const event of events) {
      if (event.type === 'prompt') this.#promptLogprobs = event.promptLogprobs;
      if (event.type === 'tokens') {
        this.#echo(event.choice, pieces);
        if (event.logprobs) this.#heldLogprobs[event.choice]!.push(...event.logprobs);
        texts.set(event.choice, (texts.get(event.choice) ?? '') + event.text);
      }
      if (event.type === 'call') {
        flush(event.choice);
        pieces.push(this.#piece(event.choice, '', null, event.call));
      }
      if (event.type === 'finish') {
        this.#echo(event.choice, pieces);
        flush(event.choice);
        pieces.push(this.#piece(event.choice, '', event.reason));
      }
    }
    for (const choice of [...texts.keys()]) flush(choice);
    return pieces;
  }

  #echo(choice: number, pieces: Piece[]): void {
    if (this.#echoed[choice]) return;
    this.#echoed[choice] = true;
    if (this.#promptLogprobs) this.#heldLogprobs[choice]!.unshift(...this.#promptLogprobs);
    pieces.push(this.#piece(choice, this.prompt.echoText, null));
  }

  #piece(choice: number, text: string, finishReason: string | null, toolCall?: ToolCall): Piece {
    const held = this.#heldLogprobs[choice]!;
    const offset = this.#offsets[choice]!;
    this.#offsets[choice] = offset + text.length;
    const logprobs = this.prepared.logprobs >= 0 && held.length > 0 ? held.splice(0) : undefined;
    return {
      index: this.promptIndex * this.prepared.choices + choice,
      text,
      finishReason,
      logprobs,
      offset,
      ...(toolCall && { toolCall }),
    };
  }
}
