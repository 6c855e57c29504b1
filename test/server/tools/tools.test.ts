import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Folder } from '../../scripts/support.js';
import { type TestServer, testServer } from '../../support/server.js';
import { toolTemplate } from '../../support/tool-template.js';

const folder = new Folder({ 'tools.jinja': `${toolTemplate}{{ preamble or '' }}` });
let server: TestServer;
beforeAll(async () => {
  server = await testServer({ model: { chatTemplate: folder.at('tools.jinja') } });
});
afterAll(async () => {
  await server.close();
  folder.close();
});

const parameters = { type: 'object', properties: { a: { type: 'integer' } } };
const messages = [{ role: 'user', content: 'Count to 10.' }];
const chatTools = [{ type: 'function', function: { name: 'add', parameters } }];
const tools = [{ type: 'function', name: 'add', parameters }];

interface Answer {
  status: number;
  tools: unknown;
  usage: { prompt_tokens: number; input_tokens: number };
  error: { param: string };
}

async function ask(where: string, body: object): Promise<Answer> {
  const answer = await server.post(`/v1/${where}`, body);
  return { ...((await answer.json()) as Omit<Answer, 'status'>), status: answer.status };
}

async function promptTokens(body: object): Promise<number> {
  const { status, usage } = await ask('chat/completions', { messages, max_tokens: 1, ...body });
  expect(status).toBe(200);
  return usage.prompt_tokens;
}

describe('tools', () => {
  it('are told to the model, unless no call is wanted', async () => {
    const without = await promptTokens({});
    expect(await promptTokens({ tools: chatTools })).toBeGreaterThan(without + 20);
    expect(await promptTokens({ tools: chatTools, tool_choice: 'none' })).toBe(without);
    expect(await promptTokens({ tools: [], tool_choice: 'auto' })).toBe(without);
  });

  it('are the same to a response', async () => {
    const response = await ask('responses', { input: 'Count to 10.', tools, max_output_tokens: 1 });
    expect(response.tools).toEqual([
      { type: 'function', name: 'add', description: null, parameters, strict: false },
    ]);
    expect(response.usage.input_tokens).toBe(await promptTokens({ tools: chatTools }));
  });

  it('are counted as they are read', async () => {
    for (const more of [
      { tools: chatTools },
      { tools: chatTools, tool_choice: 'none' },
      { tools: chatTools, chat_template_kwargs: { preamble: 'Think about it.' } },
    ]) {
      const { count } = (await (await server.post('/tokenize', { messages, ...more })).json()) as {
        count: number;
      };
      expect(count).toBe(await promptTokens(more));
    }
    const refused = await server.post('/tokenize', { messages, tools: [{ type: 'web_search' }] });
    expect(await refused.json()).toMatchObject({ error: { param: 'tools.0.type' } });
  });

  it('have their calls and results in the conversation, the arguments as an object', async () => {
    const call = { id: 'call_1', type: 'function', function: { name: 'add', arguments: '{"a":1}' } };
    const chat = [
      ...messages,
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: 'call_1', content: '2' },
    ];
    const { tokens } = (await (await server.post('/tokenize', { messages: chat })).json()) as {
      tokens: number[];
    };
    const { prompt } = (await (await server.post('/detokenize', { tokens })).json()) as { prompt: string };
    expect(prompt).toContain('<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>');
    const { usage } = await ask('responses', {
      input: [
        { role: 'user', content: messages[0]!.content },
        { type: 'function_call', call_id: 'call_1', name: 'add', arguments: '{"a":1}' },
        { type: 'function_call_output', call_id: 'call_1', output: '2' },
      ],
      max_output_tokens: 1,
    });
    expect(usage.input_tokens).toBe(tokens.length);
  });

  it('are refused by name where more is asked than can be promised', async () => {
    const cases: [string, object, string][] = [
      ['chat/completions', { messages, tool_choice: 'required' }, 'tool_choice'],
      ['responses', { input: 'x', tools, tool_choice: { type: 'function', name: 'sub' } }, 'tool_choice'],
      ['responses', { input: 'x', tools, tool_choice: { type: 'file_search' } }, 'tool_choice.type'],
      ['chat/completions', { messages, tools: chatTools, grammar: 'root ::= "x"' }, 'grammar'],
      [
        'responses',
        {
          input: 'x',
          tools: [{ ...tools[0], strict: true, parameters: { properties: { a: { not: {} } } } }],
        },
        'tools.0.parameters.properties.a.not',
      ],
      [
        'responses',
        { input: 'x', tools: [tools[0], { ...tools[0], parameters: { type: ['string', 'null'] } }] },
        'tools.1.parameters.type',
      ],
      [
        'chat/completions',
        { messages, tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'string' } } }] },
        'tools.0.function.parameters.type',
      ],
      ['responses', { input: 'x', tools: [{ type: 'web_search' }] }, 'tools.0.type'],
      ['responses', { input: 'x', tools: [{ type: 'function', name: 'a b' }] }, 'tools.0.name'],
      ['chat/completions', { messages, tools: [{ type: 'function' }] }, 'tools.0'],
      ['chat/completions', { messages, functions: [{ name: 'add' }] }, 'functions'],
    ];
    for (const [where, body, param] of cases) {
      const { status, error } = await ask(where, body);
      expect(status).toBe(400);
      expect(error.param).toBe(param);
    }
  });

  const weather = {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Oslo', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['city', 'days'],
      additionalProperties: false,
    },
  };
  const stop = { name: 'stop', parameters: { type: 'object', properties: {}, additionalProperties: false } };
  const functions = [weather, stop].map((one) => ({ type: 'function', function: { ...one, strict: true } }));

  interface Call {
    readonly function: { readonly name: string; readonly arguments: string };
  }
  interface Chat {
    readonly choices: { finish_reason: string; message: { content: string | null; tool_calls?: Call[] } }[];
  }
  async function calls(body: object): Promise<Chat['choices']> {
    const answer = await server.post('/v1/chat/completions', {
      messages,
      tools: functions,
      temperature: 1,
      max_tokens: 200,
      n: 4,
      seed: 3,
      ...body,
    });
    expect(answer.status).toBe(200);
    return ((await answer.json()) as Chat).choices;
  }
  function expectFits({ function: { name, arguments: given } }: Call): void {
    const { city, days, ...others } = JSON.parse(given);
    expect(others).toEqual({});
    if (name === 'stop') {
      expect([city, days]).toEqual([undefined, undefined]);
      return;
    }
    expect(name).toBe('get_weather');
    expect(['Oslo', 'Rome']).toContain(city);
    expect([days >= 1, days <= 9, Number.isInteger(days)]).toEqual([true, true, true]);
  }

  interface CallDelta {
    readonly index: number;
    readonly id?: string;
    readonly type?: string;
    readonly function: { readonly name?: string; readonly arguments: string };
  }
  /** One call of which a stream told in pieces: first who is called, and that alone. */
  function joined([first, ...rest]: readonly CallDelta[]): Call {
    const id = expect.stringMatching(/^call_/);
    const name = expect.any(String);
    expect(first).toEqual({ index: 0, id, type: 'function', function: { name, arguments: '' } });
    for (const piece of rest) {
      expect(piece).toEqual({ index: 0, function: { arguments: expect.stringMatching(/[\s\S]/) } });
    }
    return {
      function: {
        name: first!.function.name!,
        arguments: rest.map((one) => one.function.arguments).join(''),
      },
    };
  }
  /** What `WS /v1/stream` says of a request. */
  async function overSocket(request: object): Promise<{ type: string; tool_calls?: CallDelta[] }[]> {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/stream`);
    const frames: { type: string; tool_calls?: CallDelta[] }[] = [];
    await new Promise((resolve, reject) => {
      socket.on('open', () => socket.send(JSON.stringify({ type: 'generate', id: 'a', request })));
      socket.on('message', (data) => {
        frames.push(JSON.parse(String(data)));
        if (frames.at(-1)!.type !== 'delta') socket.close();
      });
      socket.on('close', resolve);
      socket.on('error', reject);
    });
    return frames;
  }

  it('are called where a call is required, with arguments that fit', async () => {
    for (const { finish_reason, message } of await calls({
      tool_choice: 'required',
      parallel_tool_calls: false,
    })) {
      expect([finish_reason, message.content, message.tool_calls!.length]).toEqual(['tool_calls', null, 1]);
      message.tool_calls!.forEach(expectFits);
    }
  });

  it('have an object for arguments, whatever else their parameters allow', async () => {
    const found = await server.post('/tokenize', { prompt: 'null', add_special_tokens: false });
    const { tokens } = (await found.json()) as { tokens: number[] };
    const open = [
      { type: ['null', 'object'], maxProperties: 0 },
      { anyOf: [{ type: 'null' }, { type: 'object', properties: {}, additionalProperties: false }] },
    ];
    for (const parameters of open) {
      const [choice] = await calls({
        tools: [{ type: 'function', function: { name: 'stop', parameters } }],
        tool_choice: 'required',
        parallel_tool_calls: false,
        logit_bias: Object.fromEntries(tokens.map((token) => [token, 100])),
        n: 1,
      });
      expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { tool_calls: [{}] } });
    }
  });

  it('are all that is shown where a call is required, however early it breaks off', async () => {
    const [whole] = await calls({ tool_choice: 'required', n: 1 });
    const written = whole!.message.tool_calls![0]!.function.arguments;
    const broken = new Set<string | undefined>();
    for (let max_tokens = 1; max_tokens <= 12; max_tokens++) {
      const [choice] = await calls({ tool_choice: 'required', n: 1, max_tokens });
      const { content, tool_calls } = choice!.message;
      expect([choice!.finish_reason, content ?? '']).toEqual(['length', '']);
      broken.add(tool_calls?.[0]?.function.arguments);
    }
    // Before a call is known by its name, and after.
    expect(broken.has(undefined)).toBe(true);
    broken.delete(undefined);
    for (const begun of broken) expect(written.startsWith(begun!)).toBe(true);
  });

  it('are called by name, once', async () => {
    const choice = { type: 'function', function: { name: 'get_weather' } };
    for (const { finish_reason, message } of await calls({ tool_choice: choice })) {
      expect([finish_reason, message.tool_calls!.length]).toEqual(['tool_calls', 1]);
      expect(message.tool_calls![0]!.function.name).toBe('get_weather');
      message.tool_calls!.forEach(expectFits);
    }
  });

  it('may be called or not, and fit if they are, where they are strict', async () => {
    const biased = await calls({
      tool_choice: 'auto',
      messages: [{ role: 'user', content: 'Repeat: <tool_call>' }],
    });
    for (const { message } of biased) message.tool_calls?.forEach(expectFits);
    const [plain] = await calls({ tool_choice: 'auto', temperature: 0, n: 1 });
    expect(plain).toMatchObject({ finish_reason: 'stop', message: { content: expect.stringMatching(/\w/) } });
  });

  it('are called, or the answer has its format', async () => {
    const format = {
      type: 'json_schema',
      json_schema: { name: 'x', schema: { const: 'done' }, strict: true },
    };
    for (const { message } of await calls({ response_format: format })) {
      if (message.tool_calls) message.tool_calls.forEach(expectFits);
      else expect(message.content).toBe('"done"');
    }
  });

  it('are called in a stream, and by a response', async () => {
    const body = {
      messages,
      tools: functions,
      tool_choice: 'required',
      parallel_tool_calls: false,
      temperature: 1,
      seed: 5,
    };
    const text = await (await server.post('/v1/chat/completions', { ...body, stream: true })).text();
    const events = text.split('\n\n').filter((line) => line.startsWith('data: {'));
    const choices = events.flatMap((line) => JSON.parse(line.slice(6)).choices);
    expectFits(joined(choices.flatMap(({ delta }) => delta.tool_calls ?? [])));
    expect(choices.at(-1).finish_reason).toBe('tool_calls');
    const frames = await overSocket(body);
    expect(joined(frames.flatMap((frame) => frame.tool_calls ?? []))).toEqual(
      joined(choices.flatMap(({ delta }) => delta.tool_calls ?? [])),
    );
    expect(frames.at(-1)).toMatchObject({ type: 'done', finish_reasons: ['tool_calls'] });

    const response = (await (
      await server.post('/v1/responses', {
        input: 'Count to 10.',
        tools: [{ type: 'function', ...weather, strict: true }],
        tool_choice: { type: 'function', name: 'get_weather' },
      })
    ).json()) as { output: { type: string; name: string; arguments: string }[]; tools: object[] };
    expect(response.output).toMatchObject([{ type: 'function_call', name: 'get_weather' }]);
    expectFits({ function: response.output[0]! });
    expect(response.tools).toMatchObject([{ strict: true }]);
  });

  it('are called with any object where their schema cannot be enforced and is not strict', async () => {
    const loose = { name: 'f', parameters: { type: 'object', properties: { a: { type: 'null', not: {} } } } };
    const [choice] = await calls({
      tools: [{ type: 'function', function: loose }],
      tool_choice: 'required',
      parallel_tool_calls: false,
      n: 1,
    });
    expect(['{}', '{"a":null}']).toContain(
      choice!.message.tool_calls![0]!.function.arguments.replace(/\s/g, ''),
    );
  });
});
