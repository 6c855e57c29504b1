import type { ToolCallFormatName } from '../../../server/tools/tool-call-format.js';
import { toolCallFormats } from '../../../server/tools/tool-call-format.js';
import { type AnswerPart, ToolCallReader } from '../../../server/tools/tool-call-reader.js';

/** What is read of an answer that comes in pieces: texts that follow each other are one. */
export function partsOf(
  format: ToolCallFormatName,
  pieces: readonly string[],
  names: readonly string[],
  single = false,
): AnswerPart[] {
  const reader = new ToolCallReader(toolCallFormats[format], { names: new Set(names), single });
  const parts = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()];
  const joined: AnswerPart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (last && 'text' in last && 'text' in part) joined.splice(-1, 1, { text: last.text + part.text });
    else joined.push(part);
  }
  return joined;
}
