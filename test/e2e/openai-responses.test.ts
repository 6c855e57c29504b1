import OpenAI from 'openai';
import type { ResponsesServerEvent } from 'openai/resources/responses/responses';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../support/server.js';

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await testServer();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => server.close());

const input = 'Count to 10.';
const counted = '1, 2, 3, 4, 5, 6, 7, 8, 9, 10.';

describe("the openai client's responses", () => {
  it('creates, retrieves, lists the input of, and deletes', async () => {
    const response = await client.responses.create({ model: 'demo', input });
    expect(response.output_text).toBe(counted);
    expect((await client.responses.retrieve(response.id)).output_text).toBe(counted);
    const next = await client.responses.create({
      model: 'demo',
      input: [{ role: 'user', content: input }],
      previous_response_id: response.id,
    });
    const items = [];
    for await (const item of client.responses.inputItems.list(next.id, { limit: 1, order: 'asc' }))
      items.push(item);
    expect(items).toMatchObject([{ role: 'user' }, { role: 'assistant' }, { role: 'user' }]);
    await client.responses.delete(response.id);
    await expect(client.responses.retrieve(response.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  it('streams', async () => {
    const stream = client.responses.stream({ model: 'demo', input });
    let text = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      text += delta;
    });
    const final = await stream.finalResponse();
    expect(text).toBe(counted);
    expect(final.output_text).toBe(counted);
    expect(final.status).toBe('completed');
  });

  it('turns refusals into its own error classes', async () => {
    const ask = (over: object) => client.responses.create({ model: 'demo', input, ...over });
    await expect(ask({ truncation: 'auto' })).rejects.toMatchObject({ status: 400, param: 'truncation' });
    await expect(ask({ model: 'gpt-9' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(ask({ previous_response_id: 'resp_0' })).rejects.toMatchObject({
      code: 'previous_response_not_found',
    });
  });

  it('speaks over a socket', async () => {
    const socket = new ResponsesWS(client);
    const ended = (type: 'response.completed' | 'error') =>
      new Promise<ResponsesServerEvent>((resolve) => {
        socket.once(type, (event: unknown) => resolve(event as ResponsesServerEvent));
      });
    const completed = ended('response.completed');
    socket.send({ type: 'response.create', model: 'demo', input });
    const first = await completed;
    if (first.type !== 'response.completed') throw new Error(first.type);
    expect(first.response.output[0]).toMatchObject({ content: [{ text: counted }] });
    const refused = ended('error');
    socket.send({ type: 'response.create', model: 'demo', input, previous_response_id: 'resp_0' });
    expect(await refused).toMatchObject({ error: { error: { code: 'previous_response_not_found' } } });
    const again = ended('response.completed');
    socket.send({ type: 'response.create', model: 'demo', input, previous_response_id: first.response.id });
    expect((await again).type).toBe('response.completed');
    socket.close();
  });
});
