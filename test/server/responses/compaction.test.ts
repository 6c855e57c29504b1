import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { summaryRequest, summaryTokens } from '../../../server/responses/compaction.js';
import { type TestServer, testServer } from '../../support/server.js';

interface Compacted {
  id: string;
  object: string;
  output: { type: string; id: string; role?: string; encrypted_content?: string }[];
  usage: { input_tokens: number; output_tokens: number };
}

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());

async function ask<T>(path: string, body: object): Promise<T> {
  const answer = await server.post(`/v1/${path}`, { model: 'demo', ...body });
  const text = await answer.text();
  expect(answer.status, text).toBe(200);
  return JSON.parse(text) as T;
}

async function refusal(
  body: object,
): Promise<{ status: number; code: string | null; param: string | null; message: string }> {
  const answer = await server.post('/v1/responses/compact', body);
  const { error } = (await answer.json()) as {
    error: { code: string | null; param: string | null; message: string };
  };
  return { ...error, status: answer.status };
}

const message = (role: string, content: string) => ({ type: 'message', role, content });
const told = [
  message('system', 'Answer briefly.'),
  message('user', 'The blue bicycle belongs to Anna.'),
  message('assistant', 'I see.'),
];
const chatOf = (items: readonly { role: string; content: string }[]) =>
  items.map(({ role, content }) => ({ role, content }));
const chat = (messages: readonly object[], max_tokens: number) =>
  ask<{ choices: { message: { content: string } }[]; usage: { prompt_tokens: number } }>('chat/completions', {
    messages,
    max_tokens,
    temperature: 0,
  });

function summaryIn({ output }: Compacted): string {
  const { type, encrypted_content: content } = output.at(-1)!;
  expect(type).toBe('compaction');
  return Buffer.from(content!.split('.').at(-1)!, 'base64url').toString('utf8');
}

describe('POST /v1/responses/compact', () => {
  it("has the model's summary in the place of all but system messages", async () => {
    const compacted = await ask<Compacted>('responses/compact', { input: told });
    expect(compacted).toMatchObject({ object: 'response.compaction', output: [{ role: 'system' }, {}] });
    const asked = await chat([...chatOf(told), summaryRequest], summaryTokens);
    expect(summaryIn(compacted)).toBe(asked.choices[0]!.message.content);
    expect(compacted.usage.input_tokens).toBe(asked.usage.prompt_tokens);
    expect(compacted.usage.output_tokens).toBeLessThanOrEqual(summaryTokens);
  });

  it('is what a conversation goes on from', async () => {
    const compacted = await ask<Compacted>('responses/compact', { input: told });
    const question = message('user', 'Who owns the blue bicycle?');
    const next = await ask<{ id: string; usage: { input_tokens: number } }>('responses', {
      input: [...compacted.output, question],
      max_output_tokens: 4,
    });
    // One system message, as templates want it.
    const system = `Answer briefly.\n\nSummary of the conversation so far:\n\n${summaryIn(compacted)}`;
    const alike = await chat([{ role: 'system', content: system }, ...chatOf([question])], 1);
    expect(next.usage.input_tokens).toBe(alike.usage.prompt_tokens);
    const listed = await fetch(`${server.url}/v1/responses/${next.id}/input_items?order=asc`);
    const { data } = (await listed.json()) as { data: object[] };
    expect(data[1]).toEqual(compacted.output[1]);
  });

  it('takes a conversation that is kept, by its last response', async () => {
    const first = await ask<{ id: string }>('responses', { input: told, max_output_tokens: 4 });
    const body = { previous_response_id: first.id, input: 'And the red one is mine.' };
    const compacted = await ask<Compacted>('responses/compact', body);
    expect(compacted.output.map(({ type }) => type)).toEqual(['message', 'compaction']);
    const alone = await ask<Compacted>('responses/compact', { input: body.input });
    expect(compacted.usage.input_tokens).toBeGreaterThan(alone.usage.input_tokens + 10);
  });

  it('writes as much as the context leaves', async () => {
    const long = 'The quick brown fox jumps over the lazy dog. '.repeat(500);
    const { count } = (await (await server.post('/tokenize', { model: 'demo', prompt: long })).json()) as {
      count: number;
    };
    const words = long.slice(0, Math.floor((long.length * 1900) / count));
    const compacted = await ask<Compacted>('responses/compact', { input: words });
    expect(compacted.usage.input_tokens + compacted.usage.output_tokens).toBeLessThanOrEqual(2048);
    expect(compacted.usage.input_tokens).toBeGreaterThan(1800);
  });

  it('refuses by name', async () => {
    expect(await refusal({ input: 'Hello' })).toMatchObject({ status: 400, param: 'model' });
    expect(await refusal({ model: 'demo', input: [] })).toMatchObject({ status: 400, param: 'input' });
    expect(await refusal({ model: 'demo', input: 'x', previous_response_id: 'resp_1' })).toMatchObject({
      code: 'previous_response_not_found',
    });
    for (const encrypted_content of ['gAAAAABpM0Yj', 'summary.v1.not base64']) {
      const input = [{ type: 'compaction', encrypted_content }];
      const { param, message: said } = await refusal({ model: 'demo', input });
      expect(param).toBe('input.0.encrypted_content');
      expect(said).toContain('compact the conversation here');
    }
  });
});
