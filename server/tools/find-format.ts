import type { ChatTemplate, Tokenizer } from '../../engine/index.js';
import { isJson } from './json-scan.js';
import { type ToolCallFormatName, toolCallFormats } from './tool-call-format.js';
import { type AnswerPart, ToolCallReader } from './tool-call-reader.js';

const name = 'get_weather';
const given = { city: 'Oslo', days: 2 };

/**
 * The format in which a template writes calls: the one whose reader finds, in what the template makes of a call, that
 * call. Undefined where no reader does, or the template knows no tools.
 */
export function findToolCallFormat(template: ChatTemplate): ToolCallFormatName | undefined {
  let written: string;
  try {
    written = writtenCall(template);
  } catch {
    return undefined;
  }
  const names = new Set([name]);
  return (Object.keys(toolCallFormats) as ToolCallFormatName[]).find((format) => {
    const reader = new ToolCallReader(toolCallFormats[format], { names, single: false });
    return isGivenCall([...reader.push(written), ...reader.end()]);
  });
}

/** The special tokens among a format's markers: an answer must show them, or its calls are not seen. */
export function markerTokens(tokenizer: Tokenizer, format: ToolCallFormatName): number[] {
  const { markers, innerMarkers } = toolCallFormats[format];
  return [...markers, ...innerMarkers].flatMap((marker) => {
    const ids = tokenizer.encode(marker, { special: true, addBos: false });
    return ids.length === 1 && tokenizer.isSpecial(ids[0]!) ? [ids[0]!] : [];
  });
}

/** What a template adds to a conversation for an answer that is a call. */
function writtenCall(template: ChatTemplate): string {
  // Some templates fail where a description is absent.
  const properties = {
    city: { type: 'string', description: 'Where.' },
    days: { type: 'integer', description: 'How many.' },
  };
  const parameters = { type: 'object', properties };
  const tools = [{ type: 'function', function: { name, description: 'The weather.', parameters } }];
  const question = { role: 'user', content: 'How is the weather?' };
  const call = { id: 'abcdefghi', type: 'function', function: { name, arguments: given } };
  const answer = { role: 'assistant', content: '', tool_calls: [call] };
  const before = template.render({ messages: [question], tools, addGenerationPrompt: true });
  const after = template.render({ messages: [question, answer], tools, addGenerationPrompt: false });
  let common = 0;
  while (common < before.length && before[common] === after[common]) common++;
  return after.slice(common);
}

function isGivenCall(parts: readonly AnswerPart[]): boolean {
  const ends = parts.filter(({ type }) => type === 'end');
  const json = parts.map((part) => (part.type === 'arguments' ? part.text : '')).join('');
  return ends.length === 1 && isJson(json) && JSON.stringify(JSON.parse(json)) === JSON.stringify(given);
}
