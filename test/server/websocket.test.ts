import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { json } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, type TestServer, testServer } from '../support/server.js';

interface Frame {
  type: 'delta' | 'done' | 'error';
  id: string | null;
  text?: string;
  choice?: number;
  logprobs?: { token: string; logprob: number | null }[];
  finish_reasons?: string[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details: { cached_tokens: number };
  };
  error?: { message: string; param: string | null; code: string | null };
}

/** A socket that keeps all frames, and waits for one that fits. */
class Client {
  readonly frames: Frame[] = [];
  readonly #socket: WebSocket;
  readonly opened: Promise<void>;

  constructor(url: string) {
    this.#socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream`);
    this.opened = new Promise((resolve, reject) => {
      this.#socket.on('open', () => resolve());
      this.#socket.on('error', reject);
    });
    this.#socket.on('message', (data) => this.frames.push(JSON.parse(String(data))));
  }

  send(frame: unknown): void {
    this.#socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  async end(id: string | null): Promise<Frame> {
    const find = () => this.frames.find((frame) => frame.id === id && frame.type !== 'delta');
    await eventually(async () => find() !== undefined);
    return find()!;
  }

  /** Forgets what came with the id, so that the next end is that of a later request. */
  forget(id: string | null): void {
    this.frames.splice(0, this.frames.length, ...this.frames.filter((frame) => frame.id !== id));
  }

  textOf(id: string): string {
    return this.frames
      .filter((frame) => frame.id === id)
      .map(({ text }) => text ?? '')
      .join('');
  }

  /** Reads nothing more. */
  pause(): void {
    this.#socket.pause();
  }

  close(): void {
    if (this.#socket.isPaused) this.#socket.terminate();
    else this.#socket.close();
  }
}

/** Status and code of an upgrade that is refused, which answers with the id that it was sent. */
async function refusalOf(
  url: string,
  path: string,
  headers: Record<string, string>,
): Promise<[number | undefined, string]> {
  const asked = request(url + path, {
    headers: {
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      'x-request-id': 'mine',
      ...headers,
    },
  });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const { error } = (await json(response)) as { error: { code: string } };
  expect(response.headers['x-request-id']).toBe('mine');
  expect(response.headers['retry-after']).toBe(response.statusCode === 503 ? '5' : undefined);
  return [response.statusCode, error.code];
}

describe('WS /v1/stream', () => {
  let server: TestServer;
  let client: Client;
  beforeAll(async () => {
    server = await testServer();
    client = new Client(server.url);
    await client.opened;
  });
  afterAll(async () => {
    client.close();
    await server.close();
  });
  const chat = { messages: [{ role: 'user', content: 'Count to 10.' }] };

  it('streams many requests side by side', async () => {
    for (let i = 0; i < 10; i++) client.send({ type: 'generate', id: `chat-${i}`, request: chat });
    client.send({ type: 'generate', id: 'text', request: { prompt: 'Hello', max_tokens: 3 } });
    for (let i = 0; i < 10; i++) {
      expect(await client.end(`chat-${i}`)).toMatchObject({ type: 'done', finish_reasons: ['stop'] });
      expect(client.textOf(`chat-${i}`)).toBe('1, 2, 3, 4, 5, 6, 7, 8, 9, 10.');
    }
    expect(await client.end('text')).toMatchObject({
      finish_reasons: ['length'],
      usage: { completion_tokens: 3 },
    });
  });

  it('pauses a stream that is not acknowledged, and no other', async () => {
    const request = { prompt: 'Hello', max_tokens: 60, ignore_eos: true };
    client.send({ type: 'generate', id: 'slow', request, window: 5 });
    client.send({ type: 'generate', id: 'quick', request });
    await client.end('quick');
    const deltas = () => client.frames.filter(({ id, type }) => id === 'slow' && type === 'delta').length;
    await eventually(async () => deltas() >= 5);
    // An answer comes behind all deltas that were sent before, so there are no others on their way.
    client.send({ type: 'generate', id: 'after', request: { prompt: 'Hello', max_tokens: 1 } });
    await client.end('after');
    expect(deltas()).toBe(5);
    expect(client.frames.some(({ id, type }) => id === 'slow' && type === 'done')).toBe(false);
    let acknowledged = 0;
    await eventually(async () => {
      expect(deltas() - acknowledged).toBeLessThanOrEqual(5);
      const count = deltas() - acknowledged;
      if (count > 0) client.send({ type: 'ack', id: 'slow', count });
      acknowledged += count;
      return client.frames.some(({ id, type }) => id === 'slow' && type === 'done');
    });
    expect(client.textOf('slow')).toBe(client.textOf('quick'));
  });

  it('brings the log probability of every token, also where its text is not shown', async () => {
    const cases = [{ max_tokens: 1 }, { stop: ['.'] }, { stop: [' a', 'e w'], n: 2 }, { echo: true }];
    for (const [i, over] of cases.entries()) {
      const request = { prompt: 'Once upon a time', temperature: 1, seed: 7, logprobs: 0, ...over };
      client.send({ type: 'generate', id: `scored-${i}`, request });
      await client.end(`scored-${i}`);
      const response = await server.post('/v1/completions', request);
      const { choices } = (await response.json()) as {
        choices: { logprobs: { tokens: string[]; token_logprobs: (number | null)[] } }[];
      };
      for (const [choice, { logprobs }] of choices.entries()) {
        const deltas = client.frames.filter((frame) => frame.id === `scored-${i}` && frame.choice === choice);
        const scored = deltas.flatMap((delta) => delta.logprobs ?? []);
        const what = JSON.stringify(over);
        expect(
          scored.map(({ token }) => token),
          what,
        ).toEqual(logprobs.tokens);
        expect(
          scored.map(({ logprob }) => logprob),
          what,
        ).toEqual(logprobs.token_logprobs);
      }
    }
  });

  it('cancels, and refuses by name', async () => {
    client.send({
      type: 'generate',
      id: 'gone',
      request: { prompt: 'Hello', max_tokens: 1900, ignore_eos: true },
    });
    await eventually(async () => client.frames.some(({ id }) => id === 'gone'));
    client.send({ type: 'cancel', id: 'gone' });
    await eventually(async () => (await server.metric('slots_open')) === 0);
    client.send({ type: 'generate', id: 'bad', request: { messages: [] } });
    expect((await client.end('bad')).error).toMatchObject({ param: 'messages' });
    client.send({ type: 'update', id: 'session', request: { prompt: 'and then' } });
    expect((await client.end('session')).error!.message).toContain("no session 'session'");
    client.send({ type: 'end', id: 'none' });
    expect((await client.end('none')).error!.message).toContain("no session 'none'");
    client.send({ type: 'generate', id: 'exact', session: true, request: { prompt: 'Hello' } });
    expect((await client.end('exact')).error!.message).toContain('--kv pack');
    client.send({ type: 'generate', id: 'windowless', request: chat, window: 0 });
    expect((await client.end('windowless')).error).toMatchObject({ param: 'window' });
    client.send({ type: 'generate', id: 'empty', request: {} });
    expect((await client.end('empty')).error).toMatchObject({
      message: "'request' needs 'messages' or a 'prompt'.",
      param: 'request',
    });
    client.send('no json');
    expect((await client.end(null)).error).toMatchObject({ code: 'invalid_json' });
  });

  it('leaves a running request alone when a frame with its id is refused', async () => {
    const request = { prompt: 'Hello', max_tokens: 4, ignore_eos: true };
    // With its window full it waits, and so runs on until what came is acknowledged.
    client.send({ type: 'generate', id: 'taken', request, window: 2 });
    await eventually(async () => client.frames.some(({ id }) => id === 'taken'));
    for (const type of ['generate', 'update', 'end']) {
      client.forget(null);
      client.send({ type, id: 'taken', ...(type !== 'end' && { request }) });
      const { error } = await client.end(null);
      expect(error).toMatchObject({ param: 'id', code: type === 'generate' ? 'id_in_use' : null });
      expect(error!.message).toMatch(
        type === 'generate'
          ? /'taken' is running .* choose another id, or cancel it first/
          : /no session 'taken'/,
      );
    }
    client.send({ type: 'ack', id: 'taken', count: 2 });
    expect(await client.end('taken')).toMatchObject({ type: 'done', usage: { completion_tokens: 4 } });
  });

  it('pauses what is asked for while nothing is read, too', async () => {
    const reader = new Client(server.url);
    await reader.opened;
    reader.pause();
    const request = { prompt: 'Hello', max_tokens: 1900, ignore_eos: true, logprobs: 20 };
    for (let i = 0; i < 8; i++) reader.send({ type: 'generate', id: `early-${i}`, request });
    await eventually(async () => (await server.metric('paused_requests')) === 8);
    reader.send({ type: 'generate', id: 'late', request });
    await eventually(async () => (await server.metric('paused_requests')) === 9);
    reader.close();
    await eventually(async () => (await server.metric('active_requests')) === 0);
  });

  it('frees all slots of a socket that closes', async () => {
    const other = new Client(server.url);
    await other.opened;
    for (let i = 0; i < 5; i++) {
      other.send({
        type: 'generate',
        id: `${i}`,
        request: { prompt: 'Hello', max_tokens: 1900, ignore_eos: true },
      });
    }
    await eventually(async () => other.frames.length > 0);
    other.close();
    await eventually(async () => (await server.metric('slots_open')) === 0);
    await eventually(async () => (await server.metric('websockets')) === 1);
  });

  it('closes the connection of an upgrade that it refuses, whether or not the client does', async () => {
    const refusing = await testServer({}, false);
    const client = connect({
      port: Number(new URL(refusing.url).port),
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    client.resume();
    client.write('GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
    await once(client, 'end');
    // The one that asks for the figure is there.
    await eventually(async () => (await refusing.metric('http_connections')) === 1);
    client.destroy();
    await refusing.close();
  });

  it('refuses upgrades as other requests: with an id, the error, and a count', async () => {
    const locked = await testServer({ server: { apiKey: ['key'], socketsPerKey: 1 } });
    const loading = await testServer({}, false);
    const withKey = { authorization: 'Bearer key' };
    const open = new WebSocket(`${locked.url.replace('http', 'ws')}/v1/stream`, { headers: withKey });
    await once(open, 'open');
    const unknown = { 'sec-websocket-version': '99' };
    expect(await refusalOf(locked.url, '/other', withKey)).toEqual([404, 'not_found']);
    expect(await refusalOf(locked.url, '/v1/stream', {})).toEqual([401, 'invalid_api_key']);
    expect(await refusalOf(locked.url, '/v1/responses', { ...withKey, origin: 'https://x.example' })).toEqual(
      [403, 'origin_not_allowed'],
    );
    expect(await refusalOf(locked.url, '/v1/stream', withKey)).toEqual([429, 'too_many_sockets']);
    expect(await refusalOf(locked.url, '/v1/stream', { ...withKey, ...unknown })).toEqual([
      429,
      'too_many_sockets',
    ]);
    open.close();
    await eventually(async () => (await locked.metric('websockets')) === 0);
    expect(await refusalOf(locked.url, '/v1/stream', { ...withKey, ...unknown })).toEqual([
      400,
      'invalid_handshake',
    ]);
    expect(await refusalOf(loading.url, '/v1/stream', {})).toEqual([503, 'model_loading']);
    const metrics = await (await fetch(`${locked.url}/metrics`)).text();
    for (const [status, count] of [
      [400, 1],
      [401, 1],
      [403, 1],
      [404, 1],
      [429, 2],
    ])
      expect(metrics).toContain(`tandem:http_requests_total{status="${status}"} ${count}\n`);
    await Promise.all([locked.close(), loading.close()]);
  });
});

describe('a session on WS /v1/stream', () => {
  const pack = {
    kv: 'pack',
    packSinkTokens: 32,
    packRecentTokens: 64,
    packMidTokens: 128,
    packTopPages: 2,
  } as const;
  const greedy = { max_tokens: 24, ignore_eos: true, temperature: 0 };
  let server: TestServer;
  let client: Client;
  beforeEach(async () => {
    server = await testServer({ engine: pack });
    client = new Client(server.url);
    await client.opened;
  });
  afterEach(async () => {
    client.close();
    await server.close();
  });

  /** The same text in one piece, as its tokens. */
  const whole = async (tokens: readonly number[]): Promise<string> => {
    const response = await server.post('/v1/completions', { ...greedy, prompt: tokens });
    return ((await response.json()) as { choices: { text: string }[] }).choices[0]!.text;
  };
  const tokensOf = async (prompt: string, add_special_tokens = false) =>
    ((await (await server.post('/tokenize', { prompt, add_special_tokens })).json()) as { tokens: number[] })
      .tokens;

  it('goes on behind all before it, without reading it again, and answers as if it were one prompt', async () => {
    const tokens: number[] = [];
    let text = '';
    for (let turn = 0; turn < 6; turn++) {
      const prompt = `Chapter ${turn}. ${'The red fox ran across the garden. '.repeat(9 + turn)}`;
      tokens.push(...(await tokensOf(prompt, turn === 0)));
      client.send({
        type: turn === 0 ? 'generate' : 'update',
        id: 'tale',
        ...(turn === 0 && { session: true }),
        request: { ...greedy, prompt },
      });
      const { usage, error } = await client.end('tale');
      expect(error).toBeUndefined();
      text = client.textOf('tale');
      client.forget('tale');
      expect(usage!.prompt_tokens).toBe(tokens.length);
      // All but the last token, which was sampled and not read.
      const before = turn === 0 ? 0 : tokens.length - (await tokensOf(prompt)).length - 1;
      expect(usage!.prompt_tokens_details.cached_tokens).toBe(before);
      expect(await whole(tokens)).toBe(text);
      tokens.push(...(await tokensOf(text)));
      if (tokens.length !== usage!.prompt_tokens + 24) break; // the text has other tokens than were sampled
    }
    expect(tokens.length).toBeGreaterThan(300);
    expect(await server.metric('kv_swapped_bytes')).toBeGreaterThan(0);
    client.send({ type: 'end', id: 'tale' });
    await eventually(async () => (await server.metric('kv_swapped_bytes')) === 0);
  });

  it('takes the next messages of a chat, and answers as if all of them had come at once', async () => {
    const messages: { role: string; content: string }[] = [];
    for (let turn = 0; turn < 5; turn++) {
      const content = `Part ${turn}. ${'The red fox ran across the garden. '.repeat(9 + turn)}What ran?`;
      messages.push({ role: 'user', content });
      // One answer is cut off, the others are ended by the model.
      const body = { temperature: 0, ...(turn === 1 ? { max_tokens: 2 } : {}) };
      client.send({
        type: turn === 0 ? 'generate' : 'update',
        id: 'chat',
        ...(turn === 0 && { session: true }),
        request: { ...body, messages: [messages.at(-1)] },
      });
      const { usage, error, finish_reasons } = await client.end('chat');
      expect(error).toBeUndefined();
      expect(finish_reasons).toEqual([turn === 1 ? 'length' : 'stop']);
      const text = client.textOf('chat');
      client.forget('chat');
      const response = await server.post('/v1/chat/completions', { ...body, messages });
      const whole = (await response.json()) as {
        choices: { message: { content: string } }[];
        usage: { prompt_tokens: number };
      };
      expect(text).toBe(whole.choices[0]!.message.content);
      expect(usage!.prompt_tokens).toBe(whole.usage.prompt_tokens);
      messages.push({ role: 'assistant', content: text });
    }
  });

  it('is not there after a first request that could not be read', async () => {
    client.send({ type: 'generate', id: 'a', session: true, request: { messages: [] } });
    expect((await client.end('a')).error).toMatchObject({ param: 'messages' });
    client.forget('a');
    client.send({ type: 'generate', id: 'a', session: true, request: { ...greedy, prompt: 'Hello' } });
    expect((await client.end('a')).error).toBeUndefined();
  });

  it('is not there after a first request that the engine refused', async () => {
    for (const refused of [{ prompt: 'Hello', n: 2 }, { prompt: '' }]) {
      client.send({ type: 'generate', id: 'a', session: true, request: { ...greedy, ...refused } });
      expect((await client.end('a')).error).toMatchObject({ message: expect.any(String) });
      client.forget('a');
      client.send({ type: 'update', id: 'a', request: { ...greedy, prompt: 'Hello' } });
      expect((await client.end('a')).error!.message).toContain("no session 'a'");
      client.forget('a');
    }
    client.send({ type: 'generate', id: 'a', session: true, request: { ...greedy, prompt: 'Hello' } });
    expect((await client.end('a')).error).toBeUndefined();
  });

  it('begins with the next request where its first one is cancelled before it began', async () => {
    const first = { ...greedy, messages: [{ role: 'user', content: 'Hello' }] };
    const faulty = { ...greedy, messages: [{ role: 'user' }] };
    const alone = await server.post('/v1/chat/completions', first);
    const { usage } = (await alone.json()) as { usage: { prompt_tokens: number } };
    for (const cancelled of [first, faulty]) {
      // All of it arrives before anything is prepared.
      client.send({ type: 'generate', id: 'a', session: true, request: cancelled });
      client.send({ type: 'cancel', id: 'a' });
      client.send({ type: 'update', id: 'a', request: first });
      expect(await client.end('a')).toMatchObject({ usage: { prompt_tokens: usage.prompt_tokens } });
      client.send({ type: 'end', id: 'a' });
      client.forget('a');
    }
  });

  it('begins with the next request where its first one is cancelled before anything came of it', async () => {
    const long = 'The red fox ran across the garden. '.repeat(1500);
    const next = { ...greedy, messages: [{ role: 'user', content: 'Hello' }] };
    const alone = (await (await server.post('/v1/chat/completions', next)).json()) as {
      choices: { message: { content: string } }[];
    };
    const read = await server.metric('prefill_tokens_total');
    client.send({ type: 'generate', id: 'a', session: true, request: { prompt: long } });
    await eventually(async () => (await server.metric('prefill_tokens_total')) > read);
    client.send({ type: 'cancel', id: 'a' });
    client.send({ type: 'update', id: 'a', request: next });
    expect((await client.end('a')).error).toBeUndefined();
    expect(client.textOf('a')).toBe(alone.choices[0]!.message.content);
    client.send({ type: 'end', id: 'a' });
    await eventually(async () => (await server.metric('kv_swapped_bytes')) === 0);
  });

  it('has the end of an answer once, also where what came behind it was cancelled', async () => {
    const user = (content: string) => ({ role: 'user', content });
    const say = async (frame: object, content: string) => {
      client.send({ id: 'a', request: { temperature: 0, messages: [user(content)] }, ...frame });
      const { usage, finish_reasons } = await client.end('a');
      expect(finish_reasons).toEqual(['stop']);
      const text = client.textOf('a');
      client.forget('a');
      return { text, ...usage! };
    };
    const first = await say({ type: 'generate', session: true }, 'Hello!');
    const before = first.prompt_tokens + first.completion_tokens;
    /** What a message becomes behind that answer, from its end on. */
    const behind = async (content: string) => {
      const messages = [user('Hello!'), { role: 'assistant', content: first.text }, user(content)];
      const { count } = (await (await server.post('/tokenize', { messages })).json()) as { count: number };
      return count - (before - 1);
    };
    const long = 'The red fox ran across the garden. '.repeat(1500);
    const read = await server.metric('prefill_tokens_total');
    client.send({ type: 'update', id: 'a', request: { messages: [user(long)] } });
    // It is read for long, and cancelled meanwhile.
    await eventually(async () => (await server.metric('prefill_tokens_total')) > read);
    client.send({ type: 'cancel', id: 'a' });
    const last = await say({ type: 'update' }, 'Hello!');
    expect(last.prompt_tokens).toBe(before - 1 + (await behind(long)) + (await behind('Hello!')));
  });

  it('outlives a request that is cancelled, and ends with its socket', async () => {
    const long = { prompt: 'Hello', max_tokens: 5000, ignore_eos: true };
    client.send({ type: 'generate', id: 'a', session: true, request: long });
    await eventually(async () => client.frames.length > 3);
    client.send({ type: 'cancel', id: 'a' });
    await eventually(async () => (await server.metric('slots_open')) === 0);
    client.forget('a');
    client.send({ type: 'update', id: 'a', request: { ...greedy, prompt: ' and then' } });
    expect((await client.end('a')).usage!.prompt_tokens_details.cached_tokens).toBeGreaterThan(3);
    client.send({ type: 'generate', id: 'a', request: greedy });
    client.forget('a');
    expect((await client.end('a')).error!.message).toContain('update it, or end it first');
    client.close();
    await eventually(async () => (await server.metric('kv_swapped_bytes')) === 0);
  });
});

describe('a server with sockets', () => {
  it('is not held back from its end by one that reads nothing', async () => {
    const server = await testServer({}, false);
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/debug/live`);
    await once(socket, 'open');
    socket.pause();
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      const closed = server.close();
      await vi.advanceTimersByTimeAsync(1000);
      await closed;
    } finally {
      vi.useRealTimers();
      socket.terminate();
    }
  }, 10_000);
});
