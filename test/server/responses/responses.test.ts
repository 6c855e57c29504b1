import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../../support/server.js';
import { eventsOf } from './server-events.js';

interface Shown {
  id: string;
  status: string;
  store: boolean;
  output: { id: string; type: string; status: string; content: { text: string; logprobs: object[] }[] }[];
  incomplete_details: unknown;
  usage: { input_tokens: number; output_tokens: number; total_tokens: number };
  [field: string]: unknown;
}

interface ErrorBody {
  error: { message: string; param: string | null; code: string | null };
}

const input = 'Count to 10.';
const counted = '1, 2, 3, 4, 5, 6, 7, 8, 9, 10.';
const textOf = ({ output }: Shown) => output[0]!.content[0]!.text;

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());

async function create(body: object): Promise<Shown> {
  const answer = await server.post('/v1/responses', body);
  expect(answer.status).toBe(200);
  return (await answer.json()) as Shown;
}

async function refusal(body: object): Promise<ErrorBody['error'] & { status: number }> {
  const answer = await server.post('/v1/responses', body);
  return { status: answer.status, ...((await answer.json()) as ErrorBody).error };
}

const get = (path: string, method = 'GET') => fetch(`${server.url}/v1/responses/${path}`, { method });

describe('POST /v1/responses', () => {
  it('answers with the text, what was asked and what it took', async () => {
    const response = await create({ input, metadata: { a: 'b' }, max_output_tokens: 100, temperature: 0 });
    expect(response).toMatchObject({
      object: 'response',
      status: 'completed',
      model: 'demo',
      output: [{ type: 'message', role: 'assistant', status: 'completed' }],
      metadata: { a: 'b' },
      max_output_tokens: 100,
      temperature: 0,
      store: true,
      error: null,
    });
    expect(textOf(response)).toBe(counted);
    const { input_tokens, output_tokens, total_tokens } = response.usage;
    expect(total_tokens).toBe(input_tokens + output_tokens);
  });

  it('streams the events in their order, numbered, and says the same as without a stream', async () => {
    const events = eventsOf(await (await server.post('/v1/responses', { input, stream: true })).text());
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    const types = events.map(({ type }) => type);
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const deltas = events.filter(({ type }) => type === 'response.output_text.delta');
    expect(deltas.length).toBeGreaterThan(10);
    expect(deltas.map(({ delta }) => delta).join('')).toBe(counted);
    expect(events.find(({ type }) => type === 'response.output_text.done')!.text).toBe(counted);
    const last = events.at(-1)!.response as Shown;
    expect(textOf(last)).toBe(textOf(await create({ input })));
    const itemIds = new Set(events.flatMap((event) => (event.item_id as string | undefined) ?? []));
    expect([...itemIds]).toEqual([last.output[0]!.id]);
  });

  it('is incomplete where max_output_tokens ends it', async () => {
    const response = await create({ input, max_output_tokens: 5 });
    expect(response).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output: [{ status: 'incomplete' }],
      usage: { output_tokens: 5 },
    });
    const body = { input, max_output_tokens: 5, stream: true };
    const events = eventsOf(await (await server.post('/v1/responses', body)).text());
    expect(events.at(-1)).toMatchObject({ type: 'response.incomplete', response: { status: 'incomplete' } });
  });

  it('gives logprobs where they are to be included', async () => {
    const asked = { input, include: ['message.output_text.logprobs'], top_logprobs: 2, max_output_tokens: 4 };
    const { output } = await create(asked);
    const { logprobs } = output[0]!.content[0]!;
    expect(logprobs).toHaveLength(4);
    expect(logprobs[0]).toMatchObject({ token: '1', top_logprobs: [{ token: '1' }, {}] });
    const events = eventsOf(await (await server.post('/v1/responses', { ...asked, stream: true })).text());
    const streamed = events.filter(({ type }) => type === 'response.output_text.delta');
    expect(streamed.flatMap(({ logprobs: some }) => some)).toEqual(logprobs);
  });

  it('takes instructions and the system messages after them as one', async () => {
    const message = (role: string, text: string) => ({ role, content: [{ type: 'input_text', text }] });
    const rest = [message('user', 'Hello!')];
    const apart = await create({
      instructions: 'Be brief.',
      input: [message('developer', 'Be kind.'), ...rest],
    });
    const together = await create({ input: [message('system', 'Be brief.\n\nBe kind.'), ...rest] });
    expect(apart.usage.input_tokens).toBe(together.usage.input_tokens);
    expect(textOf(apart)).toBe(textOf(together));
    expect(apart.instructions).toBe('Be brief.');
  });

  it('refuses by name what it cannot do, and what is wrong', async () => {
    const cases: [object, object][] = [
      [{ truncation: 'auto' }, { param: 'truncation' }],
      [{ background: true }, { param: 'background' }],
      [{ text: { format: { type: 'xml' } } }, { param: 'text.format.type' }],
      [{ tools: [{ type: 'web_search' }] }, { param: 'tools.0.type' }],
      [{ reasoning: { effort: 'high' } }, { param: 'reasoning.effort' }],
      [{ conversation: 'conv_1' }, { param: 'conversation' }],
      [{ top_logprobs: 3 }, { param: 'top_logprobs' }],
      [{ temperature: 3 }, { param: 'temperature' }],
      [{ metadata: { key: 'x'.repeat(600) } }, { param: 'metadata.key' }],
      [{ input: [] }, { param: 'input' }],
      [{ input: [{ type: 'reasoning', summary: [] }] }, { param: 'input.0.type' }],
      [
        { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'data:' }] }] },
        { param: 'input.0.content.0', code: 'unsupported_content' },
      ],
      [{ input: [{ type: 'item_reference', id: 'msg_0' }] }, { code: 'item_not_found' }],
      [{ previous_response_id: 'resp_0' }, { code: 'previous_response_not_found' }],
    ];
    for (const [over, expected] of cases) {
      expect(await refusal({ input, ...over }), JSON.stringify(over)).toMatchObject({
        status: 400,
        ...expected,
      });
    }
    expect(await refusal({ input, model: 'other' })).toMatchObject({ status: 404, code: 'model_not_found' });
  });

  it('frees the slot of a client that leaves, and keeps nothing of it', async () => {
    const body = { input, max_output_tokens: 1900, ignore_eos: true, stream: true };
    const answer = await server.post('/v1/responses', body);
    const reader = answer.body!.getReader();
    const { value } = await reader.read();
    const { response } = JSON.parse(/data: (.*)/.exec(String(Buffer.from(value!)))![1]!) as {
      response: Shown;
    };
    await reader.cancel();
    await eventually(async () => (await server.metric('slots_open')) === 0);
    expect((await get(response.id)).status).toBe(404);
  });

  it('ends a stream that cannot go on with a failed response', async () => {
    const body = {
      input,
      max_output_tokens: 1900,
      ignore_eos: true,
      stream: true,
      tandem: { deadline_ms: 300 },
    };
    const answer = await server.post('/v1/responses', body);
    if (answer.status !== 200) return expect(answer.status).toBe(408); // so slow that it had not begun
    const last = eventsOf(await answer.text()).at(-1)!;
    expect(last).toMatchObject({
      type: 'response.failed',
      response: {
        status: 'failed',
        error: { code: 'deadline_exceeded' },
        output: [{ status: 'incomplete' }],
      },
    });
    expect(await (await get((last.response as Shown).id)).json()).toEqual(last.response);
  });
});

describe('responses that are kept', () => {
  const facts = 'The blue bicycle belongs to Anna. Leo works as a baker.';

  it('continue a conversation as if all of it had been sent', async () => {
    const first = await create({ input: facts });
    const second = await create({ input: 'Who owns the blue bicycle?', previous_response_id: first.id });
    const [said] = first.output;
    const whole = await create({
      input: [
        { role: 'user', content: facts },
        { role: 'assistant', content: said!.content[0]!.text },
        { role: 'user', content: 'Who owns the blue bicycle?' },
      ],
    });
    expect(textOf(second)).toBe(textOf(whole));
    expect(second.usage.input_tokens).toBe(whole.usage.input_tokens);
    expect(second.previous_response_id).toBe(first.id);
    const third = await create({
      input: [{ id: said!.id }, { role: 'user', content: 'Go on.' }],
      previous_response_id: second.id,
    });
    expect(third.usage.input_tokens).toBeGreaterThan(second.usage.input_tokens);
  });

  it('do not pass their instructions on', async () => {
    const first = await create({ input: facts, instructions: 'Answer in one word, and never say a name.' });
    const second = await create({ input: 'Thanks.', previous_response_id: first.id });
    expect(second.instructions).toBeNull();
    const plain = await create({
      input: [
        { role: 'user', content: facts },
        { role: 'assistant', content: textOf(first) },
        { role: 'user', content: 'Thanks.' },
      ],
    });
    expect(second.usage.input_tokens).toBe(plain.usage.input_tokens);
  });

  it('can be got, listed by pages, and deleted', async () => {
    const first = await create({ input: facts });
    const call = { type: 'function_call', call_id: 'call_1', name: 'look_up', arguments: '{"a":1}' };
    const result = { type: 'function_call_output', call_id: 'call_1', output: 'Anna' };
    const second = await create({
      input: [call, result, { role: 'user', content: input }],
      previous_response_id: first.id,
    });
    expect(await (await get(first.id)).json()).toEqual(first);
    const page = async (query: string) =>
      (await (await get(`${second.id}/input_items?${query}`)).json()) as {
        data: { id: string; type: string; role?: string }[];
        has_more: boolean;
        first_id: string;
        last_id: string;
      };
    const all = await page('order=asc');
    expect(all.data.map(({ role, type }) => role ?? type)).toEqual([
      'user',
      'assistant',
      'function_call',
      'function_call_output',
      'user',
    ]);
    expect((await page('')).data).toEqual(all.data.toReversed());
    const begin = await page('order=asc&limit=2');
    expect(begin).toMatchObject({ has_more: true, last_id: begin.data[1]!.id });
    const rest = await page(`order=asc&after=${begin.last_id}`);
    expect([...begin.data, ...rest.data]).toEqual(all.data);
    expect(rest.has_more).toBe(false);
    expect((await get(`${second.id}/input_items?limit=0`)).status).toBe(400);
    expect(await (await get(first.id, 'DELETE')).json()).toEqual({
      id: first.id,
      object: 'response',
      deleted: true,
    });
    expect((await get(first.id)).status).toBe(404);
    expect((await get(first.id, 'DELETE')).status).toBe(404);
    expect(await refusal({ input, previous_response_id: second.id })).toMatchObject({
      code: 'previous_response_not_found',
    });
  });

  it('lists each item once by its id, however often it was sent', async () => {
    const message = { type: 'message', id: 'msg_mine', role: 'user', content: facts };
    const first = await create({ input: [message, message] });
    const refer = { type: 'item_reference', id: 'msg_mine' };
    const second = await create({
      input: [refer, message, { role: 'user', content: input }],
      previous_response_id: first.id,
    });
    const ids: string[] = [];
    for (let after = ''; ids.length < 100; ) {
      const response = await get(`${second.id}/input_items?order=asc&limit=1${after}`);
      const page = (await response.json()) as {
        data: { id: string; content: object[] }[];
        has_more: boolean;
      };
      ids.push(page.data[0]!.id);
      expect(page.data[0]).toMatchObject({ type: 'message' });
      if (!page.has_more) break;
      after = `&after=${ids.at(-1)}`;
    }
    expect(ids).toHaveLength(6);
    expect(new Set(ids).size).toBe(6);
    expect(ids[0]).toBe('msg_mine');
  });

  it('are not made by store: false, and cannot be cancelled', async () => {
    const unkept = await create({ input, store: false });
    expect(unkept.store).toBe(false);
    expect((await get(unkept.id)).status).toBe(404);
    expect(await refusal({ input, previous_response_id: unkept.id })).toMatchObject({ status: 400 });
    const kept = await create({ input });
    expect((await server.post(`/v1/responses/${kept.id}/cancel`, {})).status).toBe(400);
    expect((await server.post('/v1/responses/resp_0/cancel', {})).status).toBe(404);
  });
});

describe('a server that keeps no responses', () => {
  it('counts what the store could not keep', async () => {
    const tight = await testServer({ server: { storeLimit: 64 } });
    const { id, status } = (await (await tight.post('/v1/responses', { input })).json()) as Shown;
    expect(status).toBe('completed');
    await eventually(async () => (await tight.metric('responses_not_kept_total')) === 1);
    expect((await fetch(`${tight.url}/v1/responses/${id}`)).status).toBe(404);
    await tight.close();
  });

  it('says that it kept none, and knows none', async () => {
    const without = await testServer({ server: { store: false } });
    const answer = (await (await without.post('/v1/responses', { input, store: true })).json()) as Shown;
    expect(answer.store).toBe(false);
    const gone = await fetch(`${without.url}/v1/responses/${answer.id}`);
    expect(gone.status).toBe(404);
    expect(((await gone.json()) as ErrorBody).error.message).toContain('--no-store');
    const next = await without.post('/v1/responses', { input, previous_response_id: answer.id });
    expect(await next.json()).toMatchObject({ error: { code: 'previous_response_not_found' } });
    await without.close();
  });
});
