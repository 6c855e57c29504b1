import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { eventually, type TestServer, testServer } from '../support/server.js';

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await testServer();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => server.close());

const messages = [{ role: 'user' as const, content: 'Count to 10.' }];
const counted = '1, 2, 3, 4, 5, 6, 7, 8, 9, 10.';

describe('the openai client', () => {
  it('completes a chat', async () => {
    const completion = await client.chat.completions.create({ model: 'demo', messages });
    expect(completion.object).toBe('chat.completion');
    expect(completion.choices[0]).toMatchObject({
      index: 0,
      message: { role: 'assistant', content: counted },
      finish_reason: 'stop',
    });
    const usage = completion.usage!;
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    expect(usage.completion_tokens).toBeGreaterThan(20);
  });

  it('streams a chat: role first, text, reason, usage', async () => {
    const stream = await client.chat.completions.create({
      model: 'demo',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks[0]!.choices[0]!.delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(counted);
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe('stop');
    expect(chunks.at(-1)!.choices).toEqual([]);
    expect(chunks.at(-1)!.usage!.completion_tokens).toBeGreaterThan(20);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  });

  it('reports cached tokens when a long prompt comes again', async () => {
    const long = [
      {
        role: 'user' as const,
        content: `${'The blue bicycle belongs to Anna. '.repeat(20)}Who owns the blue bicycle?`,
      },
    ];
    await client.chat.completions.create({ model: 'demo', messages: long });
    const { usage } = await client.chat.completions.create({ model: 'demo', messages: long });
    expect(usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(100);
  });

  it('gives logprobs with alternatives, streamed and not', async () => {
    const options = { model: 'demo', messages, logprobs: true, top_logprobs: 3, max_tokens: 5 };
    const { choices } = await client.chat.completions.create(options);
    const content = choices[0]!.logprobs!.content!;
    expect(content).toHaveLength(5);
    for (const { token, logprob, bytes, top_logprobs } of content) {
      expect(logprob).toBeLessThanOrEqual(0);
      expect(Buffer.from(bytes!).toString()).toBe(token);
      expect(top_logprobs).toHaveLength(3);
      expect(top_logprobs[0]!.token).toBe(token); // greedy
    }
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...options, stream: true })) {
      streamed.push(...(chunk.choices[0]!.logprobs?.content ?? []));
    }
    expect(streamed).toEqual(content);
  });

  it('honours n, stop, seed and max_tokens', async () => {
    const { choices } = await client.chat.completions.create({
      model: 'demo',
      messages,
      n: 3,
      stop: [', 5'],
    });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    for (const { message, finish_reason } of choices) {
      expect(message.content).toBe('1, 2, 3, 4');
      expect(finish_reason).toBe('stop');
    }
    const draw = async (seed: number) => {
      const { choices } = await client.completions.create({
        model: 'demo',
        prompt: 'Tell',
        max_tokens: 16,
        temperature: 2,
        seed,
      });
      return choices[0]!.text;
    };
    expect(await draw(1)).toBe(await draw(1));
    expect(await draw(1)).not.toBe(await draw(2));
  });

  it('completes texts: batches, token ids, echo with logprobs, best_of', async () => {
    const batch = await client.completions.create({
      model: 'demo',
      prompt: ['Hello', 'Nora lives'],
      max_tokens: 3,
      n: 2,
    });
    expect(batch.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    const ids = await client.completions.create({
      model: 'demo',
      prompt: [1305, 38],
      max_tokens: 2,
      echo: true,
      logprobs: 1,
    });
    const { text, logprobs } = ids.choices[0]!;
    expect(logprobs!.tokens!.join('')).toBe(text);
    expect(logprobs!.token_logprobs![0]).toBeNull();
    expect(logprobs!.text_offset![1]).toBe(logprobs!.tokens![0]!.length);
    const best = await client.completions.create({
      model: 'demo',
      prompt: 'Hello',
      best_of: 4,
      max_tokens: 4,
      temperature: 1,
    });
    expect(best.choices).toHaveLength(1);
    expect(best.usage!.completion_tokens).toBeGreaterThan(4);
  });

  it('turns refusals into its own error classes', async () => {
    const ask = (over: object) => client.chat.completions.create({ model: 'demo', messages, ...over });
    await expect(ask({ model: 'gpt-9' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(ask({ temperature: 9 })).rejects.toMatchObject({ status: 400, param: 'temperature' });
    await expect(ask({ messages: [] })).rejects.toMatchObject({ status: 400, param: 'messages' });
    await expect(ask({ max_tokens: 100_000 })).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
    });
    await expect(ask({ n: 1000 })).rejects.toMatchObject({ status: 400, param: 'n' });
    await expect(
      ask({ tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] }),
    ).rejects.toMatchObject({ status: 400, param: 'tools' });
    await expect(ask({ response_format: { type: 'xml' } })).rejects.toMatchObject({
      param: 'response_format.type',
    });
  });

  it('parses structured output by a zod schema, whole and streamed', async () => {
    const Person = z.object({
      name: z.string().max(12),
      age: z.int().min(1).max(120),
      likes: z.array(z.enum(['tea', 'rain', 'chess'])).max(3),
      address: z.object({ city: z.string().max(12), zip: z.union([z.string().regex(/^\d{5}$/), z.null()]) }),
    });
    const request = {
      model: 'demo',
      messages: [{ role: 'user' as const, content: 'Write JSON about Mira, who lives in Oslo.' }],
      response_format: zodResponseFormat(Person, 'person'),
      top_p: 0.5,
      seed: 1,
    };
    const { choices } = await client.chat.completions.parse(request);
    expect(choices[0]!.finish_reason).toBe('stop');
    expect(Person.safeParse(choices[0]!.message.parsed).success).toBe(true);
    const stream = client.chat.completions.stream(request);
    const { choices: streamed } = await stream.finalChatCompletion();
    expect(streamed[0]!.message.parsed).toEqual(choices[0]!.message.parsed);
    const response = await client.responses.parse({
      model: 'demo',
      input: request.messages,
      text: { format: zodTextFormat(Person, 'person') },
    });
    expect(Person.safeParse(response.output_parsed).success).toBe(true);
  });

  it('frees the slot when it aborts', async () => {
    const stream = await client.chat.completions.create({
      model: 'demo',
      messages,
      stream: true,
      max_tokens: 1900,
      ...{ ignore_eos: true },
    });
    for await (const _ of stream) break;
    stream.controller.abort();
    await eventually(async () => (await server.metric('slots_open')) === 0);
    expect(await server.metric('active_requests')).toBe(0);
  });

  it('lists the model', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['demo']);
    expect(await client.models.retrieve('demo')).toMatchObject({ max_model_len: 2048 });
    await expect(client.models.retrieve('other')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});
