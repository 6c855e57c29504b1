import { describe, expect, it } from 'vitest';
import type { ToolCallFormatName } from '../../../server/tools/tool-call-format.js';
import fc from '../../support/fast-check.js';
import { partsByPiece, partsOf } from './parts.js';

const names = ['add', 'look_up'];
const call = (name: string, json: string) => ({ call: { name, arguments: json } });
const begun = (name: string, json: string) => ({ begun: { name, arguments: json } });
const read = (format: ToolCallFormatName, text: string) => partsOf(format, [text], names);
const tagged = (json: string) => `<tool_call>\n${json}\n</tool_call>`;

describe('tool calls in the format of Hermes and Qwen', () => {
  it('are taken out of the text, with the space around them', () => {
    const text = `Let me see.\n\n${tagged('{"name": "add", "arguments": {"a": 1}}')}\n${tagged('{"name": "look_up", "arguments": {}}')}\n`;
    expect(read('hermes', text)).toEqual([
      { text: 'Let me see.' },
      call('add', '{"a": 1}'),
      call('look_up', '{}'),
    ]);
  });

  it('keep their arguments as written: large numbers, tags in strings, JSON in a string', () => {
    const odd = '{"id": 12345678901234567890, "s": "</tool_call> \\" } <tool_call>"}';
    expect(read('hermes', tagged(`{"name": "add", "arguments": ${odd}}`))).toEqual([call('add', odd)]);
    expect(read('hermes', tagged('{"arguments": "{\\"a\\":1}", "name": "add"}'))).toEqual([
      call('add', '{"a":1}'),
    ]);
    expect(read('hermes', tagged('{"name": "add"}'))).toEqual([call('add', '{}')]);
  });

  it('may have their members in any order, and others', () => {
    for (const json of [
      '{"arguments": {"a": 1}, "name": "add"}',
      '{"name": "add", "parameters": {"a": 1}}',
      '{"type": "function", "name": "add", "arguments": {"a": 1}, "id": ["x", {"name": "}"}]}',
    ]) {
      expect(read('hermes', tagged(json))).toEqual([call('add', '{"a": 1}')]);
    }
  });

  it('may lack their closing tag, or a bracket before it', () => {
    const json = '{"name": "add", "arguments": {}}';
    expect(read('hermes', `<tool_call>${json}`)).toEqual([call('add', '{}')]);
    expect(read('hermes', `<tool_call>${json}<tool_call>${json}`)).toEqual([
      call('add', '{}'),
      call('add', '{}'),
    ]);
    expect(
      read('hermes', tagged('{"name": "add", "arguments": {"a": 1}') + tagged('{"name": "look_up"}')),
    ).toEqual([call('add', '{"a": 1}'), call('look_up', '{}')]);
    expect(read('hermes', `${tagged('{"name": "add", "arguments": {"a": [1')} Done.`)).toEqual([
      call('add', '{"a": [1\n'),
      { text: 'Done.' },
    ]);
  });

  it('are text where they are malformed or call no tool there is, and later ones are still found', () => {
    const good = tagged('{"name": "add", "arguments": {}}');
    for (const bad of [
      tagged("{'name': 'add'}"),
      tagged('{"name": "add", "arguments": [1]}'),
      tagged('{"name": "add", "arguments": "[1]"}'),
      tagged('{"arguments": {"a": }, "name": "add"}'),
      tagged('{"name": "subtract", "arguments": {}}'),
      tagged('{"arguments": {}, "name": "subtract"}'),
      tagged('{"id": x, "name": "add"}'),
      tagged('add(1)'),
      '<tool_call>',
    ]) {
      expect(read('hermes', `${bad} ${good}`)).toEqual([{ text: bad }, call('add', '{}')]);
    }
    expect(read('hermes', '<tool_call>\n{"name": "add", "arg')).toEqual([
      { text: '<tool_call>\n{"name": "add", "arg' },
    ]);
  });

  it('have arguments as they are written, also where these turn out to be no JSON', () => {
    for (const json of ['{"a": }', "{'a': 1}", '{"a": "\n"}', '{"a": "\\x"}']) {
      expect(read('hermes', tagged(`{"name": "add", "arguments": ${json}}`))).toEqual([call('add', json)]);
    }
  });

  it('are begun and not ended where the answer breaks off', () => {
    expect(read('hermes', '<tool_call>\n{"name": "add", "arguments": {"a": "\\u00')).toEqual([
      begun('add', '{"a": "\\u00'),
    ]);
  });

  it('end with the first one where only one is wanted', () => {
    const one = tagged('{"name": "add", "arguments": {}}');
    expect(partsOf('hermes', [`a ${one}${one} b`], names, true)).toEqual([{ text: 'a' }, call('add', '{}')]);
  });
});

describe('tool calls in the format of Llama', () => {
  it('are JSON at the beginning, or after a call, or behind the tag', () => {
    const one = '{"name": "add", "parameters": {"a": 1}}';
    const two = '{"name": "look_up", "parameters": {}}';
    expect(read('llama', `\n${one}; ${two}`)).toEqual([call('add', '{"a": 1}'), call('look_up', '{}')]);
    expect(read('llama', `I say <|python_tag|>${one}`)).toEqual([{ text: 'I say' }, call('add', '{"a": 1}')]);
  });

  it('are not JSON that is an answer', () => {
    for (const text of [
      '{"answer": 1}',
      'An object: {"name": "add", "parameters": {}}',
      '{a',
      '{"name": "x"}',
    ]) {
      expect(read('llama', text)).toEqual([{ text }]);
    }
  });
});

describe('tool calls in the formats of Mistral', () => {
  it('are a list behind the tag', () => {
    const list =
      '[{"name": "add", "arguments": {"a": [1, 2]}, "id": "123456789"}, {"name": "look_up", "arguments": {}}]';
    expect(read('mistral', `[TOOL_CALLS]${list}`)).toEqual([
      call('add', '{"a": [1, 2]}'),
      call('look_up', '{}'),
    ]);
  });

  it('are a name and arguments behind each tag', () => {
    const text =
      '[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{"a": 1}[TOOL_CALLS]look_up[ARGS]{}[TOOL_CALLS]add{}';
    expect(read('mistral', text)).toEqual([
      call('add', '{"a": 1}'),
      call('look_up', '{}'),
      call('add', '{}'),
    ]);
  });

  it('are text where they are malformed', () => {
    for (const text of [
      '[TOOL_CALLS]',
      '[TOOL_CALLS][]',
      '[TOOL_CALLS][{"name": 1}]',
      '[TOOL_CALLS]no such thing',
    ]) {
      expect(read('mistral', text)).toEqual([{ text }]);
    }
  });

  it('are calls before the one of a list that is none', () => {
    const none = '{"name": "subtract", "arguments": {}}]';
    expect(read('mistral', `[TOOL_CALLS][{"name": "add", "id": "1", "arguments": {}}, ${none}`)).toEqual([
      call('add', '{}'),
      { text: none },
    ]);
  });
});

describe('the arguments of a call', () => {
  /** What is heard of an answer, character by character. */
  const byCharacter = (format: ToolCallFormatName, text: string) =>
    partsByPiece(format, [...text], names).map((parts) =>
      parts.map((part) => ('text' in part ? part.text : part.type === 'call' ? part.name : '.')).join('|'),
    );

  it('come as they are written, once the name is known', () => {
    const heard = byCharacter('hermes', '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>');
    expect(heard.filter((piece) => piece !== '')).toEqual(['add|{', '"', 'a', '"', ':', ' ', '1', '}|.']);
  });

  it('wait for a name that comes behind them', () => {
    const heard = byCharacter('hermes', '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>');
    expect(heard.filter((piece) => piece !== '')).toEqual(['add|{"a": 1}|.']);
  });

  it('are not cut within an escape or a pair of them, and are decoded from a string', () => {
    const raw = '{"a": "\\\\\\n\\u00e9\\ud83d\\ude42x"}';
    const pieces = byCharacter('mistral', `[TOOL_CALLS]add[ARGS]${raw}`).filter((piece) => piece !== '');
    expect(pieces.slice(6)).toEqual(['"', '\\\\', '\\n', '\\u00e9', '\\ud83d\\ude42', 'x', '"', '}|.']);
    const quoted = byCharacter('llama', `{"name": "add", "parameters": ${JSON.stringify(raw)}}`);
    expect(quoted.filter((piece) => piece !== '').join('')).toBe(`add|${raw}.`);
    const astral = '{"a": "🙂"}';
    const escaped = JSON.stringify(astral).replace('🙂', '\\ud83d\\ude42');
    expect(byCharacter('llama', `{"name": "add", "parameters": ${escaped}}`)).toContain('🙂');
  });
});

describe('an answer in pieces', () => {
  const fragment = fc.constantFrom(
    '<tool_call>',
    '</tool_call>',
    '<tool_',
    '[TOOL_CALLS]',
    '[TOOL',
    '[ARGS]',
    '<|python_tag|>',
    '<|py',
    '{"name": "add", "arguments": {"a": "}"}}',
    '{"name": "add", "parameters": {}}',
    '{"name": "add", "parameters": {"a": "',
    '{"arguments": {"a": [1, "\\"]"]}, "name": ',
    '{"name": "look_up", "arguments": "{\\"\\u00e9\\": \\"\\ud83d\\ude42\\\\n\\"}"',
    '[{"name": "look_up"}]',
    '"add"',
    'add',
    '{}',
    '{',
    '}',
    ']',
    '"',
    '\\',
    '\\u',
    ', ',
    '; ',
    '\n',
    ' ',
    'word',
    '🙂',
  );
  const formats: ToolCallFormatName[] = ['hermes', 'llama', 'mistral'];

  it.each(formats)('is read the same wherever it is cut (%s)', (format) => {
    fc.assert(
      fc.property(
        fc.array(fragment, { maxLength: 12 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
        fc.boolean(),
        (made, sizes, single) => {
          const text = made.join('');
          const pieces: string[] = [];
          for (let at = 0; at < text.length; ) {
            const { value } = sizes.next();
            pieces.push(text.slice(at, at + value));
            at += value;
          }
          const whole = partsOf(format, [text], names, single);
          expect(partsOf(format, pieces, names, single)).toEqual(whole);
          expect(partsOf(format, [...text], names, single)).toEqual(whole);
          if (!whole.some((part) => !('text' in part))) expect(whole).toEqual(text === '' ? [] : [{ text }]);
        },
      ),
      { seed: 7, numRuns: 600 },
    );
  });
});
