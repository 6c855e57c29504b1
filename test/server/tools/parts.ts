import type { ToolCallFormatName } from '../../../server/tools/tool-call-format.js';
import { toolCallFormats } from '../../../server/tools/tool-call-format.js';
import { type AnswerPart, ToolCallReader } from '../../../server/tools/tool-call-reader.js';

interface Call {
  readonly name: string;
  readonly arguments: string;
}

/** `begun`: a call that the answer's end broke off. */
export type Part = { readonly text: string } | { readonly call: Call } | { readonly begun: Call };

/** What a reader finds, piece by piece. */
export function partsByPiece(
  format: ToolCallFormatName,
  pieces: readonly string[],
  names: readonly string[],
  single = false,
): AnswerPart[][] {
  const reader = new ToolCallReader(toolCallFormats[format], { names: new Set(names), single });
  return [...pieces.map((piece) => reader.push(piece)), reader.end()];
}

/** What is read of an answer that comes in pieces: texts that follow each other are one, and so are those of arguments. */
export function partsOf(...answer: Parameters<typeof partsByPiece>): Part[] {
  const joined: Part[] = [];
  for (const part of partsByPiece(...answer).flat()) {
    const last = joined.at(-1);
    if (part.type === 'call') joined.push({ begun: { name: part.name, arguments: '' } });
    else if (part.type === 'text') {
      if (last && 'text' in last) joined.splice(-1, 1, { text: last.text + part.text });
      else joined.push({ text: part.text });
    } else {
      if (!last || !('begun' in last)) throw new Error(`${part.type} without a call`);
      const { name, arguments: json } = last.begun;
      const more = part.type === 'arguments' ? part.text : '';
      const call = { name, arguments: json + more };
      joined.splice(-1, 1, part.type === 'end' ? { call } : { begun: call });
    }
  }
  return joined;
}
