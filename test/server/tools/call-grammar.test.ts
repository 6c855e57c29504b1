import { describe, expect, it } from 'vitest';
import { compileGrammar } from '../../../engine/index.js';
import { callGrammar } from '../../../server/tools/call-grammar.js';
import { accepts } from '../../support/table-matcher.js';
import { partsOf } from './parts.js';

const add = {
  name: 'add',
  strict: true,
  parameters: { properties: { a: { type: 'integer' } }, required: ['a'], additionalProperties: false },
};
const functions = [add, { name: 'now' }].map((tool, index) => ({ tool, param: `tools.${index}` }));

const written = {
  hermes: {
    one: '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    two: '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    mixed: 'Let me see: <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    wrong: '<tool_call>\n{"name": "add", "arguments": {"a": "1"}}\n</tool_call>',
  },
  llama: {
    one: '{"name": "add", "parameters": {"a": 1}}',
    two: '{"name": "add", "parameters": {"a": 1}}; {"name": "now", "parameters": {}}',
    mixed: undefined,
    wrong: '{"name": "sub", "parameters": {"a": 1}}',
  },
  mistral: {
    one: '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    two: '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now{}',
    mixed: 'Let me see.[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    wrong: '[TOOL_CALLS][{"name": "add", "arguments": {}}]',
  },
} as const;

describe.each(Object.keys(written) as (keyof typeof written)[])('the grammar of calls: %s', (format) => {
  const { one, two, mixed, wrong } = written[format];
  const tables = (forced: boolean, single = false) =>
    compileGrammar(callGrammar({ format, functions, forced, single })).tables;

  it('has calls and nothing else where one is forced', () => {
    for (const text of [one, two]) expect([text, accepts(tables(true), text)]).toEqual([text, true]);
    for (const text of [wrong, 'Hello', ...(mixed ? [mixed] : [])]) {
      expect([text, accepts(tables(true), text)]).toEqual([text, false]);
    }
  });

  it('has one where one is enough', () => {
    expect([one, two].map((text) => accepts(tables(true, true), text))).toEqual([true, false]);
  });

  it('has text too where none is forced, but no call that does not fit', () => {
    for (const text of ['Hello {"a": 1}.', one, two, ...(mixed ? [mixed] : [])]) {
      expect([text, accepts(tables(false), text)]).toEqual([text, true]);
    }
    expect(accepts(tables(false), wrong)).toBe(false);
  });

  it('is read as calls by the reader of the same format', () => {
    for (const [text, count] of [
      [one, 1],
      [two, 2],
    ] as const) {
      const parts = partsOf(format, [text], ['add', 'now']);
      expect(parts.map((part) => 'call' in part)).toEqual(Array(count).fill(true));
    }
  });
});
