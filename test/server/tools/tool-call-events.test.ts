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
  const prompt = { toolCalls, request: { n: 1 } } as unknown as PreparedPrompt;
  const prepared: Prepared = {
    kind: 'chat',
    stream: true,
    includeUsage: false,
    choices: 1,
    logprobs: -1,
    prompts: [prompt],
  };
  return { prepared, prompt, events: new ToolCallEvents(toolCalls) };
}

interface Called {
  readonly name: string;
  readonly arguments: string;
}
interface Choice {
  finish_reason: string | null;
  delta: {
    content?: string;
    tool_calls?: { index: number; id?: string; type?: string; function: Partial<Called> }[];
  };
  message: { content: string | null; tool_calls?: { id: string; type: string; function: Called }[] };
}

function streamed(
  text: string,
  { single = false, reason }: { single?: boolean; reason?: 'length' | undefined } = {},
) {
  const { prepared, prompt, events } = prepare(single);
  const pieces = new PieceStream(prepared, prompt, 0);
  const choices = steps(text, reason).flatMap((step) => pieces.next(events.next(step)).map(chatFormat.piece));
  return choices.filter((choice) => choice !== undefined) as Choice[];
}

/** The calls that a client puts together. */
function callsOf(choices: readonly Choice[]): Called[] {
  const calls: Called[] = [];
  for (const { index, function: more } of choices.flatMap(({ delta }) => delta.tool_calls ?? [])) {
    const { name, arguments: json = '' } = calls[index] ?? more;
    calls[index] = calls[index]
      ? { name: name!, arguments: json + more.arguments }
      : { name: name!, arguments: json };
  }
  return calls;
}

function whole(text: string, reason?: 'length'): Choice {
  const { prepared, prompt, events } = prepare();
  const collector = new AnswerCollector(prepared, prompt, 0);
  for (const event of steps(text, reason).flatMap((step) => events.next(step))) collector.add(event);
  return collector.answers().map(chatFormat.choice)[0] as Choice;
}

describe('a chat answer that calls tools', () => {
  it('streams its text, then who is called, with an id, then the arguments in pieces', () => {
    const choices = streamed(answer);
    expect(choices.map(({ delta }) => delta.content ?? '').join('')).toBe('Let me add.');
    const id = expect.stringMatching(/^call_[\da-f]{24}$/);
    const deltas = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
    expect(deltas).toEqual([
      { index: 0, id, type: 'function', function: { name: 'add', arguments: '' } },
      { index: 0, function: { arguments: '{"' } },
      { index: 0, function: { arguments: 'a": 1' } },
      { index: 0, function: { arguments: '}' } },
      { index: 1, id, type: 'function', function: { name: 'look_up', arguments: '' } },
      { index: 1, function: { arguments: '{}' } },
    ]);
    expect(deltas[0]!.id).not.toBe(deltas[4]!.id);
    expect(choices.at(-1)).toMatchObject({ delta: {}, finish_reason: 'tool_calls' });
  });

  it('has the same calls streamed and not', () => {
    for (const text of [answer, answer.slice(0, -30), answer.slice(0, answer.indexOf('1}'))]) {
      for (const reason of [undefined, 'length'] as const) {
        const { message, finish_reason } = whole(text, reason);
        expect(callsOf(streamed(text, { reason }))).toEqual(message.tool_calls!.map((call) => call.function));
        expect(streamed(text, { reason }).at(-1)!.finish_reason).toBe(finish_reason);
      }
    }
  });

  it('has no content where there is none, and both where there are both', () => {
    expect(whole(answer).message).toMatchObject({ content: 'Let me add.', tool_calls: [{}, {}] });
    const callOnly = whole(answer.slice(answer.indexOf('<')));
    expect(callOnly).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    expect(whole('Just text.')).toMatchObject({ finish_reason: 'stop', message: { content: 'Just text.' } });
    expect(whole('Just text.').message).not.toHaveProperty('tool_calls');
  });

  it('says that it was cut where its length ended it, with the arguments so far', () => {
    expect(whole(answer, 'length').finish_reason).toBe('length');
    const cut = answer.slice(0, answer.indexOf('1}'));
    expect(whole(cut, 'length')).toMatchObject({
      finish_reason: 'length',
      message: { content: 'Let me add.', tool_calls: [{ function: { name: 'add', arguments: '{"a": ' } }] },
    });
    // A client that waits for calls to make must not make this one.
    expect(whole(cut).finish_reason).toBe('stop');
    expect(whole(answer.slice(0, -30), 'length').message.content).toContain('<tool_call>');
  });

  it('has one call at most without parallel calls', () => {
    expect(callsOf(streamed(answer, { single: true }))).toEqual([{ name: 'add', arguments: json }]);
  });
});

describe('a response that calls tools', () => {
  function respond(text: string, reason?: 'length') {
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
    const shown = steps(text, reason).flatMap((step) => response.next(events.next(step)));
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

  it('has the arguments in pieces, and whole at their end', () => {
    const { shown } = respond(answer);
    const ofFirst = shown.filter(({ output_index }) => output_index === 1);
    const deltas = ofFirst.filter(({ type }) => type === 'response.function_call_arguments.delta');
    expect(deltas.map(({ delta }) => delta)).toEqual(['{"', 'a": 1', '}']);
    expect(ofFirst.at(-2)).toMatchObject({ type: 'response.function_call_arguments.done', arguments: json });
  });

  it('has a call that its length cut off, as incomplete', () => {
    const cut = answer.slice(0, answer.indexOf('1}'));
    const { shown, output } = respond(cut, 'length');
    expect(output.at(-1)).toMatchObject({ type: 'function_call', status: 'incomplete', arguments: '{"a": ' });
    expect(shown.slice(-2).map(({ type }) => type)).toEqual([
      'response.function_call_arguments.done',
      'response.output_item.done',
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
