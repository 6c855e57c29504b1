import { describe, expect, it } from 'vitest';
import type { TokenEvent, Usage } from '../../../engine/index.js';
import { AnswerCollector } from '../../../server/collect.js';
import { chatFormat } from '../../../server/openai/wire-format.js';
import type { Prepared, PreparedPrompt } from '../../../server/prepare/prepared.js';
import type { PreparedResponse } from '../../../server/responses/prepared.js';
import { ResponseEvents } from '../../../server/responses/response-events.js';
import { PieceStream } from '../../../server/stream-pieces.js';
import { ToolCallEvents } from '../../../server/tools/tool-call-events.js';
import { haveApiDocuments, Schemas } from '../responses/api-documents.js';

const usage: Usage = { promptTokens: 9, cachedTokens: 0, completionTokens: 7, queueMs: 0, ttftMs: 0 };
const json = '{"a": 1}';
const answer = `Let me add.\n<tool_call>\n{"name": "add", "arguments": ${json}}\n</tool_call>\n<tool_call>\n{"name": "look_up"}\n</tool_call>`;

/** What the engine says of an answer, a step for every few characters. */
function steps(text: string, reason: 'stop' | 'length' = 'stop'): TokenEvent[][] {
  const pieces = text.match(/[\s\S]{1,5}/g) ?? [];
  return [
    ...pieces.map((piece): TokenEvent[] => [{ type: 'tokens', choice: 0, text: piece, tokens: [1] }]),
    [
      { type: 'finish', choice: 0, reason },
      { type: 'done', usage },
    ],
  ];
}

function prepare(single = false): { prepared: Prepared; prompt: PreparedPrompt; events: ToolCallEvents } {
  const toolCalls = { format: 'hermes', names: ['add', 'look_up'], single } as const;
  const prompt = { echoText: '', toolCalls, request: { n: 1 } } as unknown as PreparedPrompt;
  const prepared: Prepared = {
    kind: 'chat',
    stream: true,
    includeUsage: false,
    choices: 1,
    logprobs: -1,
    echo: false,
    prompts: [prompt],
  };
  return { prepared, prompt, events: new ToolCallEvents(toolCalls) };
}

interface Choice {
  finish_reason: string | null;
  delta: { content?: string; tool_calls?: { index: number; id: string; function: object }[] };
  message: { content: string | null; tool_calls?: { id: string; type: string; function: object }[] };
}

function streamed(text: string, single = false): Choice[] {
  const { prepared, prompt, events } = prepare(single);
  const pieces = new PieceStream(prepared, prompt, 0);
  return steps(text).flatMap((step) => pieces.next(events.next(step)).map(chatFormat.piece)) as Choice[];
}

function whole(text: string, reason?: 'length'): Choice {
  const { prepared, prompt, events } = prepare();
  const collector = new AnswerCollector(prepared, prompt, 0);
  for (const event of steps(text, reason).flatMap((step) => events.next(step))) collector.add(event);
  return collector.answers().map(chatFormat.choice)[0] as Choice;
}

describe('a chat answer that calls tools', () => {
  it('streams its text, then each call whole, with an id', () => {
    const choices = streamed(answer);
    expect(choices.map(({ delta }) => delta.content ?? '').join('')).toBe('Let me add.');
    const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
    expect(calls).toMatchObject([
      { index: 0, type: 'function', function: { name: 'add', arguments: json } },
      { index: 1, type: 'function', function: { name: 'look_up', arguments: '{}' } },
    ]);
    expect(calls.every(({ id }) => /^call_[\da-f]{24}$/.test(id))).toBe(true);
    expect(calls[0]!.id).not.toBe(calls[1]!.id);
    expect(choices.at(-1)).toMatchObject({ delta: {}, finish_reason: 'tool_calls' });
  });

  it('has no content where there is none, and both where there are both', () => {
    expect(whole(answer).message).toMatchObject({ content: 'Let me add.', tool_calls: [{}, {}] });
    const callOnly = whole(answer.slice(answer.indexOf('<')));
    expect(callOnly).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    expect(whole('Just text.')).toMatchObject({ finish_reason: 'stop', message: { content: 'Just text.' } });
    expect(whole('Just text.').message).not.toHaveProperty('tool_calls');
  });

  it('says that it was cut where its length ended it', () => {
    expect(whole(answer, 'length').finish_reason).toBe('length');
    expect(whole(answer.slice(0, -30), 'length').message.content).toContain('<tool_call>');
  });

  it('has one call at most without parallel calls', () => {
    expect(streamed(answer, true).flatMap(({ delta }) => delta.tool_calls ?? [])).toHaveLength(1);
  });
});

describe('a response that calls tools', () => {
  function respond(text: string) {
    const { prepared, events } = prepare();
    const asked = {
      ...prepared,
      settings: { parallel_tool_calls: true },
      input: '[]',
      inputIds: [],
      conversation: '[]',
      store: false,
      previousResponseId: null,
    } satisfies PreparedResponse;
    const response = new ResponseEvents('resp_1', 'demo', asked, false);
    const shown = steps(text).flatMap((step) => response.next(events.next(step)));
    return { shown, output: response.closing(usage).response.output };
  }

  it('has an item for its text and one for each call, and says so in order', () => {
    const { shown, output } = respond(answer);
    const types = shown.map(({ type }) => type.replace('response.', ''));
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      ...Array(2)
        .fill([
          'output_item.added',
          'function_call_arguments.delta',
          'function_call_arguments.done',
          'output_item.done',
        ])
        .flat(),
    ]);
    expect(shown.map(({ sequence_number }) => sequence_number)).toEqual(shown.map((_, i) => i));
    expect(output).toMatchObject([
      { type: 'message', content: [{ text: 'Let me add.' }] },
      { type: 'function_call', name: 'add', arguments: json, status: 'completed' },
      { type: 'function_call', name: 'look_up', arguments: '{}' },
    ]);
  });

  it('has no message where it only calls, and an empty one where it says nothing', () => {
    expect(respond(answer.slice(answer.indexOf('<'))).output.map(({ type }) => type)).toEqual([
      'function_call',
      'function_call',
    ]);
    expect(respond('').output).toMatchObject([{ type: 'message', content: [{ text: '' }] }]);
  });

  it.skipIf(!haveApiDocuments)('says it as Open Responses has it', () => {
    const schemas = new Schemas();
    const { shown } = respond(answer);
    const items = shown.filter(({ type }) => !/created|in_progress/.test(type));
    expect(items.flatMap((event) => schemas.eventFaults(event))).toEqual([]);
  });
});
