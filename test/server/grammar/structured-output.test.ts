import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../../support/server.js';
import { threads } from '../../support/threads.js';

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());

const messages = [{ role: 'user', content: 'Write JSON about Mira, who is 30.' }];
const schema = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 10 }, age: { type: 'integer', minimum: 1, maximum: 99 } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const named = { name: 'person', schema, strict: true };
const format = { type: 'json_schema', json_schema: named };

interface Answer {
  readonly choices: { text: string; message: { content: string }; finish_reason: string }[];
  readonly output: { content: { text: string }[] }[];
  readonly text: object;
  readonly error: { param: string; message: string; code: string };
}

async function ask(where: string, body: object, status = 200): Promise<Answer> {
  const answer = await server.post(`/v1/${where}`, { seed: 2, ...body });
  const json = (await answer.json()) as Answer;
  expect([answer.status, json.error ?? null]).toEqual([status, status === 200 ? null : expect.anything()]);
  return json;
}

function expectPerson(text: string): void {
  const { name, age, ...others } = JSON.parse(text);
  expect(others).toEqual({});
  expect([typeof name, Number.isInteger(age), age >= 1, age <= 99]).toEqual(['string', true, true, true]);
}

describe('structured output', () => {
  it.runIf(process.platform === 'linux')('has masks found ahead where a core would be idle', async () => {
    await ask('chat/completions', { messages, grammar: 'root ::= "yes"' });
    expect(threads().filter(({ isIdle }) => isIdle)).toEqual([{ nice: 19, isIdle: true }]);
  });

  it('has the schema of response_format in every choice, strict or not', async () => {
    for (const strict of [true, false]) {
      const { choices } = await ask('chat/completions', {
        messages,
        n: 5,
        temperature: 1,
        response_format: { type: 'json_schema', json_schema: { ...named, strict } },
      });
      expect(choices.map(({ finish_reason }) => finish_reason)).toEqual(Array(5).fill('stop'));
      for (const { message } of choices) expectPerson(message.content);
    }
  });

  it('comes token by token in a stream, the same as whole', async () => {
    const body = { messages, response_format: format, temperature: 1, seed: 11 };
    const whole = await ask('chat/completions', body);
    const text = await (await server.post('/v1/chat/completions', { ...body, stream: true })).text();
    const chunks = text.split('\n\n').filter((line) => line.startsWith('data: {'));
    const deltas = chunks.flatMap((line) => JSON.parse(line.slice(6)).choices[0].delta.content ?? []);
    expect(deltas.length).toBeGreaterThan(8);
    expect(deltas.join('')).toBe(whole.choices[0]!.message.content);
    expectPerson(deltas.join(''));
  });

  it('is cut by max_tokens, which the finish reason says', async () => {
    const { choices } = await ask('chat/completions', { messages, response_format: format, max_tokens: 4 });
    expect(choices[0]!.finish_reason).toBe('length');
    expect(choices[0]!.message.content.startsWith('{')).toBe(true);
    expect(() => JSON.parse(choices[0]!.message.content)).toThrow();
  });

  it('is a JSON object', async () => {
    const { choices } = await ask('chat/completions', {
      messages,
      response_format: { type: 'json_object' },
      temperature: 0.5,
      n: 4,
      max_tokens: 120,
    });
    for (const { finish_reason, message } of choices) {
      expect(message.content.startsWith('{')).toBe(true);
      if (finish_reason === 'stop') JSON.parse(message.content);
    }
  });

  it('follows the text of a grammar, in chats, completions and responses', async () => {
    const grammar = 'root ::= ("red" | "blue") " " [0-9]{2}';
    const pattern = /^(red|blue) \d\d$/;
    const chat = await ask('chat/completions', { messages, grammar });
    expect(chat.choices[0]!.message.content).toMatch(pattern);
    const completions = await ask('completions', { prompt: ['a', 'b'], grammar });
    expect(completions.choices.map(({ text }) => pattern.test(text))).toEqual([true, true]);
    const { output } = await ask('responses', { input: 'Hello!', grammar });
    expect(output[0]!.content[0]!.text).toMatch(pattern);
  });

  it('has the schema in completions, and text.format in responses', async () => {
    const { choices } = await ask('completions', {
      prompt: 'Mira',
      response_format: format,
      max_tokens: 100,
    });
    expectPerson(choices[0]!.text);
    const { output, text } = await ask('responses', {
      input: 'Mira',
      text: { format: { type: 'json_schema', ...named } },
    });
    expectPerson(output[0]!.content[0]!.text);
    expect(text).toEqual({
      format: { type: 'json_schema', ...named, description: null },
      verbosity: 'medium',
    });
    const kept = await ask('responses', { input: 'Mira', text: { format: { type: 'json_object' } } });
    expect(kept.text).toMatchObject({ format: { type: 'json_object' } });
  });

  it('is refused with the place of what is wrong, before a stream begins', async () => {
    const at = 'response_format.json_schema';
    const withSchema = (given: unknown) => ({
      response_format: { type: 'json_schema', json_schema: { ...named, schema: given } },
    });
    const cases: [string, object, string, string][] = [
      [
        'chat/completions',
        withSchema({ properties: { a: { uniqueItems: true } } }),
        `${at}.schema.properties.a.uniqueItems`,
        "'uniqueItems' is not supported",
      ],
      [
        'chat/completions',
        { ...withSchema({ type: 'text' }), stream: true },
        `${at}.schema.type`,
        'there is no type "text"',
      ],
      [
        'chat/completions',
        withSchema({ enum: [`${'x'.repeat(300_000)}`] }),
        `${at}.schema`,
        'more than 262144 bytes',
      ],
      ['chat/completions', { response_format: { type: 'json_schema' } }, `${at}`, 'is missing'],
      ['chat/completions', { response_format: { type: 'yaml' } }, 'response_format.type', 'expected a type'],
      ['chat/completions', { grammar: 'root ::= "a' }, 'grammar', 'line 1, column'],
      ['chat/completions', { grammar: 'root ::= "a"', response_format: format }, 'grammar', 'another format'],
      [
        'responses',
        { text: { format: { type: 'json_schema', name: 'x', schema: { $ref: '#/a' }, strict: true } } },
        'text.format.schema.$ref',
        'is not there',
      ],
    ];
    for (const [where, body, param, message] of cases) {
      const asked = where === 'responses' ? { input: 'x' } : { messages };
      const { error } = await ask(where, { ...asked, ...body }, 400);
      expect(error.param).toBe(param);
      expect(error.message).toContain(message);
    }
  });

  it('is refused where it is nested deeper than any stack', async () => {
    const deep = `${'['.repeat(60_000)}${']'.repeat(60_000)}`;
    const answer = await server.post(
      '/v1/chat/completions',
      `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"const":${deep}}}}}`,
    );
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: 'body_too_deep' } });
  });
});
