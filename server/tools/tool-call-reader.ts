import { GrowingText } from './growing-text.js';
import type { CallPart, CallReading } from './read-call.js';
import type { ToolCallFormat } from './tool-call-format.js';

export type AnswerPart = { readonly type: 'text'; readonly text: string } | CallPart;

export interface ReaderOptions {
  /** A call of any other name is text. */
  readonly names: ReadonlySet<string>;
  /** After the first call nothing more is shown. */
  readonly single: boolean;
  /** The answer has nothing but calls: what none has come of when it breaks off is no text. */
  readonly callsOnly?: boolean;
}

/**
 * Parts the calls of an answer from its text, while the answer grows. No part of a call is ever shown as text, unless it
 * turns out that it is none; space around calls is not shown. However an answer is cut into pieces, the same is found.
 */
export class ToolCallReader {
  /** What has not been shown: it begins a call, or may. */
  readonly #input = new GrowingText();
  #marker = '';
  #reading: CallReading | undefined;
  /** The marker that is being read behind has turned out to begin a call. */
  #isCall = false;
  /** Space that is shown when text follows it. */
  #space = '';
  #before: 'nothing' | 'text' | 'call' = 'nothing';
  #done = false;

  constructor(
    private readonly format: ToolCallFormat,
    private readonly options: ReaderOptions,
  ) {}

  push(text: string): AnswerPart[] {
    this.#input.text += text;
    return this.#read();
  }

  /** What is left when the answer has ended. */
  end(): AnswerPart[] {
    this.#input.ended = true;
    const parts = this.#read();
    if (this.#space !== '' && this.#before !== 'call' && !this.#done) {
      parts.push({ type: 'text', text: this.#space });
    }
    this.#space = '';
    return parts;
  }

  #read(): AnswerPart[] {
    const parts: AnswerPart[] = [];
    while (!this.#done) {
      this.#reading ??= this.#begin(parts);
      if (!this.#reading) return parts;
      const { value, done } = this.#reading.next();
      if (done) this.#endCalls(value, parts);
      else if (value === undefined) return parts;
      else this.#showCall(value, parts);
    }
    this.#input.take(this.#input.text.length);
    return parts;
  }

  /** Shows the text before the next marker, and reads behind it. Undefined where none has come yet. */
  #begin(parts: AnswerPart[]): CallReading | undefined {
    const { at, marker } = this.#next();
    this.#show(
      this.#input.take(marker === undefined && this.#input.ended ? this.#input.text.length : at),
      parts,
    );
    if (marker === undefined) return undefined;
    this.#marker = marker === '' ? '{' : marker;
    this.#isCall = false;
    this.#input.at = marker.length;
    return this.format.read(this.#input, (name) => this.options.names.has(name));
  }

  #showCall(part: CallPart, parts: AnswerPart[]): void {
    parts.push(part);
    this.#isCall = true;
    this.#space = '';
    this.#before = 'call';
    this.#done = this.options.single && part.type === 'end';
  }

  #endCalls(areAll: boolean, parts: AnswerPart[]): void {
    this.#reading = undefined;
    if (areAll) this.#input.take(this.#input.at);
    // No call after all: the marker is text like any other, and what follows it is looked at anew.
    else if (!this.#isCall) this.#show(this.#input.take(this.#marker.length), parts);
    this.#input.at = 0;
  }

  /** Where the next marker begins; without one, where the text begins that may yet become one. */
  #next(): { at: number; marker?: string } {
    const { text } = this.#input;
    if (this.format.bare && this.#before !== 'text') {
      const at = text.search(this.#before === 'call' ? /[^\s;]/ : /\S/);
      if (at < 0) return { at: 0 };
      if (text[at] === '{') return { at, marker: '' };
    }
    let found: { at: number; marker?: string } = { at: text.length };
    for (const marker of this.format.markers) {
      const at = text.indexOf(marker);
      if (at >= 0 && at < found.at) found = { at, marker };
    }
    if (found.marker !== undefined) return found;
    return { at: Math.min(...this.format.markers.map((marker) => text.length - overlap(text, marker))) };
  }

  #show(text: string, parts: AnswerPart[]): void {
    if (this.options.callsOnly) return;
    // What parts calls is no text: space, and with bare calls a semicolon.
    const shown = this.#before === 'call' ? text.replace(this.format.bare ? /^[\s;]+/ : /^\s+/, '') : text;
    const whole = this.#space + shown;
    const visible = whole.trimEnd();
    this.#space = whole.slice(visible.length);
    if (visible === '') return;
    this.#before = 'text';
    parts.push({ type: 'text', text: visible });
  }
}

/** How long an end of `text` is with which `marker` begins. */
function overlap(text: string, marker: string): number {
  for (let length = Math.min(text.length, marker.length - 1); length > 0; length--) {
    if (text.endsWith(marker.slice(0, length))) return length;
  }
  return 0;
}
