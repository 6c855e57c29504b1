import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kvBody } from '../../server/openai/kv-usage.js';
import { eventually, type TestServer, testServer } from '../support/server.js';

interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

async function errorOf(response: Response): Promise<ErrorBody['error'] & { status: number }> {
  return { status: response.status, ...((await response.json()) as ErrorBody).error };
}

/** An answer whose reader has had the first of it, and waits. */
class PausedAnswer {
  readonly #socket: Socket;
  #text = '';
  readonly begun: Promise<void>;
  readonly text: Promise<string>;

  constructor(url: string, path: string, body: object) {
    const json = JSON.stringify(body);
    this.#socket = connect(Number(new URL(url).port), '127.0.0.1', () => {
      this.#socket.write(
        `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n` +
          `content-length: ${json.length}\r\n\r\n${json}`,
      );
    });
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (text: string) => {
      this.#text += text;
    });
    this.begun = new Promise((resolve) => {
      this.#socket.once('data', () => {
        this.#socket.pause();
        resolve();
      });
    });
    this.text = new Promise((resolve) => {
      this.#socket.on('error', () => undefined);
      this.#socket.on('close', () => resolve(this.#text));
    });
  }

  readOn(): void {
    this.#socket.resume();
  }
}

describe('http', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer({ server: { bodyLimit: 100_000 } });
  });
  afterAll(() => server.close());
  const chat = { messages: [{ role: 'user', content: 'Hello!' }], max_tokens: 4 };

  it('answers every mistake with an error object that names it', async () => {
    const cases: [string, unknown, Record<string, string>, object][] = [
      ['/v1/chat/completions', '{"a":', {}, { status: 400, code: 'invalid_json' }],
      ['/v1/chat/completions', '', {}, { status: 400, code: 'invalid_json' }],
      ['/v1/completions', '[{"\\"]":'.repeat(300), {}, { status: 400, code: 'body_too_deep' }],
      ['/v1/chat/completions', { ...chat, messages: 7 }, {}, { status: 400, param: 'messages' }],
      ['/v1/chat/completions', { messages: [{ role: 'x' }] }, {}, { status: 400, param: 'messages.0.role' }],
      ['/v1/chat/completions', chat, { 'content-type': 'text/plain' }, { status: 415 }],
      [
        '/v1/chat/completions',
        { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
        {},
        { status: 400, code: 'unsupported_content' },
      ],
      ['/v1/completions', { prompt: 'x', suffix: 'y' }, {}, { status: 400, param: 'suffix' }],
      ['/v1/completions', { prompt: [99_999_999] }, {}, { status: 400, param: 'prompt' }],
      ['/v1/completions', { prompt: [] }, {}, { status: 400, param: 'prompt' }],
      ['/v1/completions', { prompt: 'x', logit_bias: { a: 1 } }, {}, { status: 400 }],
      [
        '/v1/chat/completions',
        { ...chat, pad: 'x'.repeat(200_000) },
        {},
        { status: 413, code: 'body_too_large' },
      ],
      ['/v1/completions', { prompt: 'x', stop_token_ids: [99_999_999] }, {}, { param: 'stop_token_ids' }],
      [
        '/v1/chat/completions',
        { messages: [{ role: 'user', contents: 'x' }] },
        {},
        { status: 400, param: 'messages.0.content' },
      ],
      ['/v1/nothing', {}, {}, { status: 404, code: 'not_found' }],
      ['/health', {}, {}, { status: 405, code: 'method_not_allowed' }],
    ];
    for (const [path, body, headers, expected] of cases) {
      expect(await errorOf(await server.post(path, body, headers)), path).toMatchObject(expected);
    }
    expect((await fetch(`${server.url}/v1/completions`)).headers.get('allow')).toBe('POST');
  });

  it('says what was expected', async () => {
    const cases: [string, unknown, string][] = [
      ['/v1/chat/completions', {}, "'messages' is missing."],
      ['/v1/completions', {}, "'prompt' is missing."],
      ['/v1/completions', { prompt: {} }, "Invalid 'prompt': expected string or array"],
      ['/v1/completions', { prompt: 'x', stop: 5 }, "Invalid 'stop': expected string or array"],
      [
        '/v1/completions',
        { prompt: 'x', stop: ['1', '2', '3', '4', '5'] },
        "Invalid 'stop': Too big: expected array to have <=4 items",
      ],
      ['/v1/completions', { prompt: 'x', logit_bias: { a: 1 } }, 'expected token ids as keys'],
      ['/v1/completions', { prompt: 'x', tandem: { kv_pressure: 'far' } }, '"off"|"int8"'],
    ];
    for (const [path, body, message] of cases) {
      expect((await errorOf(await server.post(path, body))).message, JSON.stringify(body)).toContain(message);
    }
    const elsewhere = await errorOf(await fetch(`${server.url}/v1/models/gpt`));
    expect(elsewhere).toMatchObject({ status: 404, code: 'model_not_found' });
    expect(elsewhere.message).toContain("there is 'demo'");
  });

  it('names the field that asks for more than the context, and for more tokens than at most', async () => {
    const { contextLength } = server.engine.info;
    const long = 'word '.repeat(contextLength);
    const endless = '7'.repeat(9 * contextLength);
    const most = contextLength;
    const chatOf = (content: string) => ({ messages: [{ role: 'user', content }] });
    const cases: [string, object, string][] = [
      ['/v1/chat/completions', chatOf(long), 'messages'],
      ['/v1/chat/completions', chatOf(endless), 'messages'],
      ['/v1/chat/completions', { ...chatOf('x'), max_tokens: most }, 'max_tokens'],
      ['/v1/chat/completions', { ...chatOf('x'), max_completion_tokens: most }, 'max_completion_tokens'],
      ['/v1/completions', { prompt: long }, 'prompt'],
      ['/v1/completions', { prompt: endless }, 'prompt'],
      ['/v1/completions', { prompt: 'x', max_tokens: most }, 'max_tokens'],
      ['/v1/completions', { prompt: long, stream: true }, 'prompt'],
      ['/v1/responses', { input: long }, 'input'],
      ['/v1/responses', { input: endless }, 'input'],
      ['/v1/responses', { input: 'x', max_output_tokens: most }, 'max_output_tokens'],
      ['/v1/responses/compact', { input: long, model: 'demo' }, 'input'],
    ];
    for (const [path, body, param] of cases) {
      const error = await errorOf(await server.post(path, body));
      expect(error, path).toMatchObject({ status: 400, code: 'context_length_exceeded', param });
      if (JSON.stringify(body).includes(endless)) expect(error.message).toContain(`more than ${4 * most}`);
    }
    const nothing = await errorOf(await server.post('/v1/completions', { prompt: '' }));
    expect(nothing).toMatchObject({ status: 400, param: 'prompt' });
    const atLeast: [string, object, string][] = [
      ['/v1/chat/completions', { ...chat, max_tokens: 3 }, "'max_tokens', which is 3"],
      ['/v1/chat/completions', { ...chat, max_completion_tokens: 4 }, "'max_completion_tokens', which is 4"],
      ['/v1/completions', { prompt: 'x' }, "'max_tokens', which is 16"],
      ['/v1/responses', { input: 'x', max_output_tokens: 16 }, "'max_output_tokens', which is 16"],
    ];
    for (const [path, body, message] of atLeast) {
      const error = await errorOf(await server.post(path, { ...body, min_tokens: 17 }));
      expect(error, path).toMatchObject({ status: 400, param: 'min_tokens' });
      expect(error.message).toContain(`'min_tokens' of 17 is greater than ${message}`);
    }
  });

  it('refuses what others call otherwise, and says what it is called here', async () => {
    const completion = { prompt: 'x', max_tokens: 1 };
    const cases: [string, object, string, string][] = [
      ['/v1/chat/completions', { ...chat, guided_json: {} }, 'guided_json', "'response_format'"],
      ['/v1/completions', { ...completion, guided_choice: ['a'] }, 'guided_choice', "'grammar'"],
      ['/v1/completions', { ...completion, use_beam_search: true }, 'use_beam_search', 'not supported'],
      ['/v1/completions', { prompt: 'x', n_predict: 5 }, 'n_predict', "'max_tokens'"],
      [
        '/v1/chat/completions',
        { ...chat, chat_template: '{{ messages }}' },
        'chat_template',
        "'--chat-template'",
      ],
      ['/v1/chat/completions', { ...chat, documents: [{ text: 'x' }] }, 'documents', 'not supported'],
      ['/v1/chat/completions', { ...chat, modalities: ['text', 'audio'] }, 'modalities', 'text'],
      ['/v1/responses', { input: 'x', max_tokens: 5 }, 'max_tokens', "'max_output_tokens'"],
      ['/v1/responses', { messages: chat.messages }, 'messages', "'input'"],
    ];
    for (const [path, body, param, message] of cases) {
      const error = await errorOf(await server.post(path, body));
      expect(error, param).toMatchObject({ status: 400, code: 'unsupported_parameter', param });
      expect(error.message).toContain(message);
    }
    const asksForNothing = {
      use_beam_search: false,
      bad_words: [],
      guided_json: null,
      modalities: ['text'],
      suffix: '',
    };
    expect((await server.post('/v1/completions', { ...completion, ...asksForNothing })).status).toBe(200);
  });

  it('refuses what is said of a stream, or of the likeliest, where none are asked for', async () => {
    const stream_options = { include_usage: true };
    const cases: [string, object, string][] = [
      ['/v1/chat/completions', { ...chat, stream_options }, 'stream_options'],
      ['/v1/chat/completions', { ...chat, stream: false, stream_options }, 'stream_options'],
      ['/v1/completions', { prompt: 'x', stream_options }, 'stream_options'],
      ['/v1/responses', { input: 'x', stream_options: { include_obfuscation: false } }, 'stream_options'],
      ['/v1/chat/completions', { ...chat, top_logprobs: 1 }, 'top_logprobs'],
    ];
    for (const [path, body, param] of cases) {
      expect(await errorOf(await server.post(path, body)), path).toMatchObject({ status: 400, param });
    }
  });

  it('takes null, and what asks for nothing, as absent', async () => {
    const message = {
      role: 'user',
      name: null,
      tool_calls: null,
      content: [{ type: 'text', text: chat.messages[0]!.content, image_url: null }],
    };
    const body = { ...chat, messages: [message], stream_options: null, logprobs: null, top_logprobs: 0 };
    const contentOf = async (asked: object) => {
      const answer = await server.post('/v1/chat/completions', asked);
      return ((await answer.json()) as { choices?: { message: { content: string } }[] }).choices?.[0]?.message
        .content;
    };
    expect(await contentOf(body)).toBe(await contentOf(chat));
  });

  it('lets the model go on with the last message', async () => {
    const messages = [
      { role: 'user', content: 'Count to 10.' },
      { role: 'assistant', content: '1, 2, 3, 4, 5' },
    ];
    const body = { messages, continue_final_message: true, temperature: 0 };
    const answer = (await (await server.post('/v1/chat/completions', body)).json()) as {
      choices: { message: { content: string } }[];
    };
    expect(answer.choices[0]!.message.content).toBe(', 6, 7, 8, 9, 10.');
    const { tokens } = (await (await server.post('/tokenize', body)).json()) as { tokens: number[] };
    const { prompt } = (await (await server.post('/detokenize', { tokens })).json()) as { prompt: string };
    expect(prompt.endsWith('assistant\n1, 2, 3, 4, 5')).toBe(true);
    const asks = (over: object) => server.post('/v1/chat/completions', { ...body, ...over }).then(errorOf);
    expect(await asks({ add_generation_prompt: true })).toMatchObject({ param: 'continue_final_message' });
    expect(await asks({ messages: messages.slice(0, 1) })).toMatchObject({
      status: 400,
      param: 'messages.0',
    });
    const empty = [messages[0], { role: 'assistant', content: '' }];
    expect(await asks({ messages: empty })).toMatchObject({ status: 400, param: 'messages.1' });
  });

  it('says how the device is shared', async () => {
    const report = await (await fetch(`${server.url}/debug/scheduler`)).json();
    expect(report).toMatchObject({ policy: 'nexus', prefillOrder: 'spf', share: expect.any(Object) });
  });

  it('says on request what the KV of a request came to', async () => {
    const usageOf = async (body: object) =>
      ((await (await server.post('/v1/completions', body)).json()) as { usage: { tandem?: unknown } }).usage;
    const prompt = Array.from({ length: 40 }, (_, token) => 100 + token);
    const body = { prompt, max_tokens: 4, ignore_eos: true };
    expect((await usageOf(body)).tandem).toBeUndefined();
    // The last token is sampled and not in the cache: 43 tokens, two blocks of 192 KiB.
    const kv = { tokens: 43, bytes: 2 * 196_608 };
    expect((await usageOf({ ...body, tandem: { kv: true } })).tandem).toEqual({ kv });
  });

  it('shows `zip` by layer in a usage, over all prompts of a request', () => {
    const kv = (high: number, all: number) => ({
      tokens: 100,
      droppedTokens: 0,
      farTokens: 0,
      bytes: 5000,
      layers: [
        { high, all },
        { high: 0, all: 0 },
      ],
    });
    const usage = { promptTokens: 1, cachedTokens: 0, completionTokens: 1, queueMs: 0, ttftMs: 0 };
    expect(kvBody([usage])).toEqual({});
    expect(
      kvBody([
        { ...usage, kv: kv(1, 4) },
        { ...usage, kv: kv(2, 4) },
      ]),
    ).toEqual({
      tandem: { kv: { tokens: 200, bytes: 10_000, kept: [0.375, null] } },
    });
  });

  it('prepares large bodies in another thread with the same outcome', async () => {
    const padded = { ...chat, metadata: { pad: 'x'.repeat(50_000) } };
    const small = (await (await server.post('/v1/chat/completions', chat)).json()) as { choices: unknown };
    const large = (await (await server.post('/v1/chat/completions', padded)).json()) as { choices: unknown };
    expect(large.choices).toEqual(small.choices);
    const wrong = { ...padded, temperature: -1 };
    expect(await errorOf(await server.post('/v1/chat/completions', wrong))).toMatchObject({
      status: 400,
      param: 'temperature',
    });
  });

  it('says what is wrong with a body that is not compressed as it is said to be', async () => {
    const body = gzipSync(JSON.stringify(chat));
    const send = (sent: Buffer, encoding: string) =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-encoding': encoding },
        body: sent,
      });
    expect((await send(body, 'gzip')).status).toBe(200);
    for (const [sent, encoding] of [
      [Buffer.from(JSON.stringify(chat)), 'gzip'],
      [body.subarray(0, 40), 'gzip'],
      [body, 'br'],
    ] as const) {
      const error = await errorOf(await send(sent, encoding));
      expect(error).toMatchObject({ status: 400, code: 'invalid_encoding' });
      expect(error.message).toContain(`not valid ${encoding}, as its content-encoding has it`);
    }
  });

  it('tokenizes and detokenizes', async () => {
    const text = 'The password for Beijing is sezowu67. — 你好 🙂';
    const { tokens, count } = (await (await server.post('/tokenize', { prompt: text })).json()) as {
      tokens: number[];
      count: number;
    };
    expect(count).toBe(tokens.length);
    expect(await (await server.post('/detokenize', { tokens })).json()).toEqual({ prompt: text });
    const { contextLength } = server.engine.info;
    const long = '7'.repeat(9 * contextLength);
    for (const body of [{ prompt: long }, { messages: [{ role: 'user', content: long }] }]) {
      const all = (await (await server.post('/tokenize', body)).json()) as { count: number };
      expect(all.count).toBeGreaterThanOrEqual(9 * contextLength);
    }
    const asChat = (await (await server.post('/tokenize', { messages: chat.messages })).json()) as {
      count: number;
    };
    expect(asChat.count).toBe(11);
  });

  it('gives each answer a request id, the one it was asked with if that is sound', async () => {
    const ask = async (id?: string) =>
      (await fetch(`${server.url}/health`, { headers: id ? { 'x-request-id': id } : {} })).headers.get(
        'x-request-id',
      );
    expect(await ask('my-id.7')).toBe('my-id.7');
    expect(await ask('bad id <b>')).toMatch(/^[\da-f-]{36}$/);
  });

  it('answers in HTTP/1.1 who asks for HTTP/2', async () => {
    const h2c =
      'connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n';
    const body = JSON.stringify({ ...chat, user: 'x'.repeat(50_000) });
    const asked = [
      `GET /v1/models HTTP/1.1\r\nhost: x\r\n${h2c}\r\n`,
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n${h2c}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      'GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    ];
    const text = await new Promise<string>((resolve) => {
      let heard = '';
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1', () => socket.write(asked[0]!));
      socket.on('data', (data) => {
        heard += String(data);
        const answers = heard.split('HTTP/1.1 ').length - 1;
        if (heard.endsWith('}') && asked[answers] !== undefined) socket.write(asked[answers]);
      });
      socket.on('close', () => resolve(heard));
    });
    const [models, completion, health] = text.split('HTTP/1.1 200 OK').slice(1);
    expect(models).toContain('"object":"list"');
    expect(completion).toContain('"object":"chat.completion"');
    expect(health).toContain('"ok"');
  });

  it('keeps connections for longer than those who would use them again do', async () => {
    // nginx and the load balancers of clouds keep theirs for 60 s, and a request that meets the end of one is lost.
    const { headers } = await fetch(`${server.url}/health`);
    expect(Number(/timeout=(\d+)/.exec(headers.get('keep-alive')!)![1])).toBeGreaterThan(60);
  });

  it('survives what is no HTTP', async () => {
    for (const bytes of [
      '\0\0\0\0\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      `GET /${'x'.repeat(70_000)} HTTP/1.1\r\n\r\n`,
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(Number(new URL(server.url).port), '127.0.0.1', () => socket.write(bytes));
        socket.on('error', () => resolve());
        socket.on('close', () => resolve());
        socket.on('data', () => socket.destroy());
      });
    }
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  });
});

describe('keys and origins', () => {
  it('lets in who has a key, and says so to others', async () => {
    const server = await testServer({ server: { apiKey: ['one', 'two'] } });
    const models = (headers: Record<string, string>) => fetch(`${server.url}/v1/models`, { headers });
    expect((await models({})).status).toBe(401);
    expect((await models({ authorization: 'Bearer three' })).status).toBe(401);
    expect((await models({ authorization: 'Bearer two' })).status).toBe(200);
    // The scheme may be written in any case (RFC 9110, section 11.1).
    expect((await models({ authorization: 'bearer two' })).status).toBe(200);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    await server.close();
  });

  it('answers browsers of the named origins only', async () => {
    const server = await testServer({ server: { corsOrigin: ['https://a.example'] } }, false);
    const preflight = (origin: string) =>
      fetch(`${server.url}/v1/chat/completions`, { method: 'OPTIONS', headers: { origin } });
    const allowed = await preflight('https://a.example');
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://a.example');
    expect((await preflight('https://b.example')).headers.get('access-control-allow-origin')).toBeNull();
    await server.close();
  });
});

describe('before and after serving', () => {
  it('is alive and not ready while the model loads', async () => {
    const server = await testServer({}, false);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect((await fetch(`${server.url}/ready`)).status).toBe(503);
    const refused = await server.post('/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] });
    expect(refused.headers.get('retry-after')).toBe('5');
    expect(await errorOf(refused)).toMatchObject({ status: 503, code: 'model_loading' });
    await server.close();
  });

  it('logs no fault where a probe is told that the server is not ready', async () => {
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line) => void lines.push(line) });
    const server = await testServer({}, false, logger);
    for (const path of ['/ready', '/v1/models/demo']) await fetch(server.url + path);
    await eventually(async () => lines.length > 0);
    await server.close();
    expect(lines.filter((line) => line.includes('"msg":"request"'))).toEqual([
      expect.stringContaining('"path":"/v1/models/demo","status":503'),
    ]);
  });

  it('drains: streams end whole, new requests get 503', async () => {
    const server = await testServer({ server: { gracePeriodMs: 120_000 } });
    const body = { prompt: 'Hello', max_tokens: 300, ignore_eos: true, stream: true };
    const running = await server.post('/v1/completions', body);
    const drained = server.drain();
    const refused = await server.post('/v1/completions', body).catch(() => undefined);
    if (refused) expect(refused.status).toBe(503);
    const text = await running.text();
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
    expect(text).toContain('"finish_reason":"length"');
    await drained;
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  });

  it('drains: answers that are under way arrive whole, as long as they are read', async () => {
    const server = await testServer({ server: { gracePeriodMs: 120_000 } });
    const answer = new PausedAnswer(server.url, '/tokenize', { prompt: 'a b '.repeat(1_000_000) });
    await answer.begun;
    const drained = server.drain();
    await new Promise(setImmediate);
    answer.readOn();
    await drained;
    const [head, body] = (await answer.text).split('\r\n\r\n', 2);
    expect(body!.length).toBe(Number(/content-length: (\d+)/i.exec(head!)![1]));

    const hasty = await testServer({ server: { gracePeriodMs: 10 } });
    const unread = new PausedAnswer(hasty.url, '/tokenize', { prompt: 'a b '.repeat(1_000_000) });
    await unread.begun;
    await hasty.drain();
    unread.readOn();
    await unread.text;
  });

  it('drains: who waits for something to be prepared is told', async () => {
    const adminKey = 'only for those who run it';
    const server = await testServer({ server: { gracePeriodMs: 120_000, adminKey } });
    // A second of work for whoever compiles it.
    const grammar = 'root ::= [a-c]* "a" [a-c]{10}';
    const refused = server.post('/v1/completions', { prompt: 'Hello', grammar });
    const headers = { authorization: `Bearer ${adminKey}` };
    await eventually(async () => {
      const response = await fetch(`${server.url}/v1/admin`, { headers });
      return ((await response.json()) as { keys: { requests: number }[] }).keys[0]!.requests === 1;
    });
    await server.drain();
    expect(await errorOf(await refused)).toMatchObject({ status: 503, code: 'shutting_down' });
  });

  it('answers 429 with a time to retry when the queue is full', async () => {
    const server = await testServer({ engine: { maxSequences: 1, maxQueue: 1 } });
    const long = { prompt: 'Hello', max_tokens: 2000, ignore_eos: true, stream: true };
    const running = await server.post('/v1/completions', long);
    // One of them waits until the running one ends, and that is when all others have been refused.
    let refusals = 0;
    const responses = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const response = await server.post('/v1/completions', { prompt: 'Hello', max_tokens: 1 });
        if (response.status === 429 && ++refusals === 7) await running.body!.cancel();
        return response;
      }),
    );
    expect(responses.map(({ status }) => status).sort()).toEqual([200, ...Array(7).fill(429)]);
    for (const { status, headers } of responses) {
      if (status === 429) expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    }
    await server.close();
  });

  it('refuses more prompts in a body than could ever wait: to try again would not help', async () => {
    const server = await testServer({ engine: { maxQueue: 2 } });
    const ask = (prompts: number) =>
      server.post('/v1/completions', { prompt: Array(prompts).fill('Hello'), max_tokens: 1 });
    expect((await ask(2)).status).toBe(200);
    const refused = await ask(3);
    expect(refused.headers.get('retry-after')).toBeNull();
    expect(await errorOf(refused)).toMatchObject({
      status: 400,
      param: 'prompt',
      message: "'prompt' holds 3 prompts; it may hold 1 to 2 here.",
    });
    await server.close();
  });
});
