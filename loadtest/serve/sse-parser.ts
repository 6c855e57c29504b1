import { StringDecoder } from 'node:string_decoder';

/**
 * Server-sent events from a body that arrives in pieces of any size. Gives the data of each event that a piece completes;
 * comments and other fields are dropped.
 */
export class SseParser {
  readonly #decoder = new StringDecoder('utf8');
  #line = '';
  #data: string[] = [];
  /** The last piece ended in \r: a \n at the next one's begin belongs to it. */
  #afterReturn = false;

  push(piece: Uint8Array): string[] {
    const events: string[] = [];
    let text = this.#decoder.write(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    if (text === '') return events;
    if (this.#afterReturn && text.startsWith('\n')) text = text.slice(1);
    this.#afterReturn = text.endsWith('\r');
    const lines = (this.#line + text).split(/\r\n|\r|\n/);
    this.#line = lines.pop()!;
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0) events.push(this.#data.join('\n'));
        this.#data = [];
      } else if (line.startsWith('data:')) {
        this.#data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }
    }
    return events;
  }
}
