import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../../support/server.js';

/** Of the kind that Hermes and Qwen have. */
const template = `{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-template-'));
let server: TestServer;
beforeAll(async () => {
  const chatTemplate = path.join(folder, 'tools.jinja');
  writeFileSync(chatTemplate, template);
  server = await testServer({ model: { chatTemplate } });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
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
      ['chat/completions', { messages, tools: chatTools, tool_choice: 'required' }, 'tool_choice'],
      ['responses', { input: 'x', tools, tool_choice: { type: 'function', name: 'add' } }, 'tool_choice'],
      ['responses', { input: 'x', tools: [{ ...tools[0], strict: true }] }, 'tools.0.strict'],
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
});
