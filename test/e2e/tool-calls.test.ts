import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { ChatOpenAI } from '@langchain/openai';
import { jsonSchema, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { type TestServer, testServer } from '../support/server.js';
import { toolTemplate } from '../support/tool-template.js';

const folder = new Folder({ 'tools.jinja': toolTemplate });
let server: TestServer;
let client: OpenAI;
beforeAll(async () => {
  server = await testServer({ model: { chatTemplate: folder.at('tools.jinja') } });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  folder.close();
});

const name = 'get_weather';
const parameters = {
  type: 'object' as const,
  properties: { city: { enum: ['Oslo', 'Rome'] }, note: { type: 'string' as const, maxLength: 30 } },
  required: ['city', 'note'],
  additionalProperties: false,
};
const messages = [{ role: 'user' as const, content: 'Tell Mira how the weather is.' }];
const chat = {
  model: 'demo',
  messages,
  tools: [{ type: 'function' as const, function: { name, parameters, strict: true } }],
  tool_choice: { type: 'function' as const, function: { name } },
  temperature: 1,
  seed: 5,
};
const response = {
  model: 'demo',
  input: messages,
  tools: [{ type: 'function' as const, name, parameters, strict: true }],
  tool_choice: { type: 'function' as const, name },
  temperature: 1,
  store: false,
  ...{ seed: 5 },
};

/** The arguments of the same call, from an answer that was not streamed. */
async function whole(): Promise<string> {
  const { choices } = await client.chat.completions.create(chat);
  const [call] = choices[0]!.message.tool_calls!;
  if (call?.type !== 'function') throw new Error('no function was called');
  expect(Object.keys(JSON.parse(call.function.arguments))).toEqual(['city', 'note']);
  return call.function.arguments;
}

describe('a tool call, as it is generated', () => {
  it('is taken by the openai client: chat completions', async () => {
    const stream = client.chat.completions.stream(chat);
    const pieces: string[] = [];
    stream.on('tool_calls.function.arguments.delta', (event) => pieces.push(event.arguments_delta));
    const ends: unknown[] = [];
    stream.on('tool_calls.function.arguments.done', (event) => ends.push(event.parsed_arguments));
    const [choice] = (await stream.finalChatCompletion()).choices;
    const json = await whole();
    expect(pieces.length).toBeGreaterThan(4);
    expect(pieces.join('')).toBe(json);
    expect(ends).toEqual([JSON.parse(json)]);
    expect(choice).toMatchObject({
      finish_reason: 'tool_calls',
      message: { tool_calls: [{ type: 'function', function: { name, arguments: json } }] },
    });
  });

  it('is taken by the openai client: responses, as events and over a socket', async () => {
    const stream = client.responses.stream(response);
    const pieces: string[] = [];
    stream.on('response.function_call_arguments.delta', ({ delta }) => pieces.push(delta));
    const { output } = await stream.finalResponse();
    const json = await whole();
    expect(pieces.length).toBeGreaterThan(4);
    expect(pieces.join('')).toBe(json);
    expect(output).toMatchObject([{ type: 'function_call', name, arguments: json, status: 'completed' }]);

    const socket = new ResponsesWS(client);
    const overSocket: string[] = [];
    socket.on('response.function_call_arguments.delta', ({ delta }) => overSocket.push(delta));
    const done = new Promise<string>((resolve) => {
      socket.on('response.function_call_arguments.done', (event) => resolve(event.arguments));
    });
    socket.send({ type: 'response.create', ...response });
    expect(await done).toBe(json);
    socket.close();
    expect(overSocket).toEqual(pieces);
  });

  it('is taken by LangChain', async () => {
    const model = new ChatOpenAI({
      model: 'demo',
      apiKey: 'none',
      temperature: 1,
      modelKwargs: { seed: 5 },
      configuration: { baseURL: `${server.url}/v1` },
    }).bindTools(chat.tools, { tool_choice: chat.tool_choice });
    let pieces = 0;
    let all: Awaited<ReturnType<typeof model.invoke>> | undefined;
    for await (const chunk of await model.stream('Tell Mira how the weather is.')) {
      pieces += chunk.tool_call_chunks?.length ?? 0;
      all = all ? all.concat(chunk) : chunk;
    }
    expect(pieces).toBeGreaterThan(5);
    expect(all!.tool_calls).toMatchObject([{ name, args: JSON.parse(await whole()) }]);
  });

  it('is taken by the AI SDK', async () => {
    const tandem = createOpenAICompatible({ name: 'tandem', baseURL: `${server.url}/v1`, apiKey: 'none' });
    const { fullStream } = streamText({
      model: tandem('demo'),
      messages,
      tools: { [name]: tool({ inputSchema: jsonSchema(parameters) }) },
      toolChoice: { type: 'tool', toolName: name },
      temperature: 1,
      seed: 5,
    });
    const pieces: string[] = [];
    let input: unknown;
    for await (const part of fullStream) {
      if (part.type === 'tool-input-delta') pieces.push(part.delta);
      if (part.type === 'tool-call') input = part.input;
      if (part.type === 'error') throw part.error;
    }
    const json = await whole();
    expect(pieces.length).toBeGreaterThan(4);
    expect(pieces.join('')).toBe(json);
    expect(input).toEqual(JSON.parse(json));
  });

  it('ends with what there is of its arguments where the longest answer cuts it off', async () => {
    const asked = { ...chat, max_tokens: 40 };
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]).toMatchObject({ finish_reason: 'length', message: { tool_calls: [{}] } });
    const pieces: string[] = [];
    let reason: string | null = null;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      const [choice] = chunk.choices;
      pieces.push(...(choice!.delta.tool_calls ?? []).map((call) => call.function!.arguments!));
      reason = choice!.finish_reason ?? reason;
    }
    expect(reason).toBe('length');
    expect((await whole()).startsWith(pieces.join(''))).toBe(true);
    expect(choices[0]!.message.tool_calls).toMatchObject([{ function: { arguments: pieces.join('') } }]);
  });
});
