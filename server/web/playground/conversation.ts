import type { ToolCall } from './chat-stream.js';

/** Of a message that shows images. */
export type ContentPart =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'image_url'; readonly image_url: { readonly url: string } };

export type Message =
  | { readonly role: 'user'; readonly content: string | readonly ContentPart[] }
  | { readonly role: 'assistant'; readonly content: string; readonly tool_calls?: readonly ToolCall[] }
  | { readonly role: 'tool'; readonly tool_call_id: string; readonly content: string };

interface Turn {
  /** Absent for an answer that failed: it is shown, and not sent again. */
  readonly message: Message | undefined;
  readonly element: HTMLElement;
}

/** The messages so far, each with the element that shows it. */
export class Conversation {
  readonly #turns: Turn[] = [];

  constructor(private readonly list: HTMLElement) {}

  get messages(): Message[] {
    return this.#turns.flatMap(({ message }) => message ?? []);
  }

  /** Images that its messages show. */
  get images(): number {
    const parts = this.messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content));
    return parts.filter(({ type }) => type === 'image_url').length;
  }

  get isEmpty(): boolean {
    return this.#turns.length === 0;
  }

  add(message: Message | undefined, element: HTMLElement): void {
    this.#turns.push({ message, element });
    if (!element.isConnected) this.list.append(element);
  }

  /** Takes away this turn and all behind it. */
  removeFrom(element: HTMLElement): void {
    const index = this.#turns.findIndex((turn) => turn.element === element);
    if (index < 0) return;
    for (const turn of this.#turns.splice(index)) turn.element.remove();
  }

  /** Takes away what came behind the last message of a person or a tool. */
  removeAnswer(): void {
    let keep = this.#turns.length;
    while (keep > 0 && [undefined, 'assistant'].includes(this.#turns[keep - 1]!.message?.role)) keep--;
    for (const turn of this.#turns.splice(keep)) turn.element.remove();
  }

  clear(): void {
    for (const turn of this.#turns.splice(0)) turn.element.remove();
  }
}
