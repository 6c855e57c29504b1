import type { Attempt, ToolCallFormat, WrittenCall } from './tool-call-format.js';

export type AnswerPart = { readonly text: string } | { readonly call: WrittenCall };

export interface ReaderOptions {
  /** A call of any other name is text. */
  readonly names: ReadonlySet<string>;
  /** After the first call nothing more is shown. */
  readonly single: boolean;
}

/**
 * Parts the calls of an answer from its text, while the answer grows. No part of a call is ever shown as text, unless it
 * turns out that it is none; space around calls is not shown.
 */
export class ToolCallReader {
  /** What has not been shown: it begins a call, or may. */
  #text = '';
  #marker = '';
  #attempt: Attempt | undefined;
  /** Space that is shown when text follows it. */
  #space = '';
  #before: 'nothing' | 'text' | 'call' = 'nothing';
  #done = false;

  constructor(
    private readonly format: ToolCallFormat,
    private readonly options: ReaderOptions,
  ) {}

  push(text: string): AnswerPart[] {
    this.#text += text;
    return this.#read(false);
  }

  /** What is left when the answer has ended. */
  end(): AnswerPart[] {
    const parts = this.#read(true);
    if (this.#space !== '' && this.#before !== 'call' && !this.#done) parts.push({ text: this.#space });
    this.#space = '';
    return parts;
  }

  #read(final: boolean): AnswerPart[] {
    const parts: AnswerPart[] = [];
    while (!this.#done) {
      if (!this.#attempt && !this.#begin(parts, final)) return parts;
      const outcome = this.#attempt!.read(this.#text, final);
      if (outcome === 'more' && !final) return parts;
      this.#attempt = undefined;
      if (typeof outcome === 'string' || !outcome.calls.every(({ name }) => this.options.names.has(name))) {
        // No call after all: the marker is text like any other, and what follows it is looked at anew.
        this.#show(this.#marker, parts);
        this.#text = this.#text.slice(this.#marker.length);
        continue;
      }
      const calls = this.options.single ? outcome.calls.slice(0, 1) : outcome.calls;
      parts.push(...calls.map((call) => ({ call })));
      this.#text = this.#text.slice(outcome.length);
      this.#space = '';
      this.#before = 'call';
      this.#done = this.options.single;
    }
    this.#text = '';
    return parts;
  }

  /** Shows the text before the next marker, and opens it. False where none has come yet. */
  #begin(parts: AnswerPart[], final: boolean): boolean {
    const { at, marker } = this.#next();
    const length = marker === undefined && final ? this.#text.length : at;
    this.#show(this.#text.slice(0, length), parts);
    this.#text = this.#text.slice(length);
    if (marker === undefined) return false;
    this.#marker = marker === '' ? '{' : marker;
    this.#attempt = this.format.open(marker);
    return true;
  }

  /** Where the next marker begins; without one, where the text begins that may yet become one. */
  #next(): { at: number; marker?: string } {
    const text = this.#text;
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
    // What parts calls is no text: space, and with bare calls a semicolon.
    const shown = this.#before === 'call' ? text.replace(this.format.bare ? /^[\s;]+/ : /^\s+/, '') : text;
    const whole = this.#space + shown;
    const visible = whole.trimEnd();
    this.#space = whole.slice(visible.length);
    if (visible === '') return;
    this.#before = 'text';
    parts.push({ text: visible });
  }
}

/** How long an end of `text` is with which `marker` begins. */
function overlap(text: string, marker: string): number {
  for (let length = Math.min(text.length, marker.length - 1); length > 0; length--) {
    if (text.endsWith(marker.slice(0, length))) return length;
  }
  return 0;
}
