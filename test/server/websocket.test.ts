import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, type TestServer, testServer } from '../support/server.js';

interface Frame {
  type: 'delta' | 'done' | 'error';
  id: string | null;
  text?: string;
  finish_reasons?: string[];
  usage?: { completion_tokens: number };
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

  textOf(id: string): string {
    return this.frames
      .filter((frame) => frame.id === id)
      .map(({ text }) => text ?? '')
      .join('');
  }

  close(): void {
    this.#socket.close();
  }
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
    client.send({ type: 'update', id: 'session' });
    expect((await client.end('session')).error!.message).toContain('endless session');
    client.send('no json');
    expect((await client.end(null)).error).toMatchObject({ code: 'invalid_json' });
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

  it('refuses upgrades elsewhere and without a key', async () => {
    await expect(new Client(`${server.url}/other`).opened).rejects.toThrow('404');
    const locked = await testServer({ server: { apiKey: ['key'] } });
    await expect(new Client(locked.url).opened).rejects.toThrow('401');
    await locked.close();
  });
});
