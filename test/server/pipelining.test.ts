import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../support/server.js';

const path = '/v1/completions';
const long = { prompt: 'Hello', max_tokens: 1900, ignore_eos: true, stream: true };

/** A request as it stands on the wire. */
function post(body: object, headers = ''): string {
  const json = JSON.stringify(body);
  return (
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${headers}` +
    `content-length: ${Buffer.byteLength(json)}\r\n\r\n${json}`
  );
}

/** A connection on which several requests are sent before the first is answered. */
class Connection {
  readonly #socket: Socket;
  #text = '';
  /** All that came until the server closed it. */
  readonly closed: Promise<string>;

  constructor(url: string, text: string) {
    this.#socket = connect(Number(new URL(url).port), '127.0.0.1', () => this.#socket.write(text, 'latin1'));
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (data: string) => {
      this.#text += data;
    });
    this.#socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => this.#socket.on('close', () => resolve(this.#text)));
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  has(text: string): Promise<void> {
    return eventually(() => Promise.resolve(this.#text.includes(text)));
  }

  leave(): void {
    this.#socket.destroy();
  }
}

describe('requests behind others on one connection', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await testServer();
  });
  afterAll(() => server.close());
  const running = () => server.metric('num_requests_running');

  it('are answered in their order', async () => {
    const few = { ...long, max_tokens: 3 };
    const text = post(few) + post({ ...few, stream: false }) + post(few, 'connection: close\r\n');
    const answers = (await new Connection(server.url, text).closed).split('HTTP/1.1 200 OK').slice(1);
    expect(answers.map((answer) => answer.includes('[DONE]'))).toEqual([true, false, true]);
    expect(JSON.parse(answers[1]!.split('\r\n\r\n')[1]!)).toMatchObject({ usage: { completion_tokens: 3 } });
  });

  it('end with their client, as the one that is being answered does', async () => {
    // So much that it is paused until the one before it has been sent.
    const behind = { ...long, n: 8, logprobs: 5 };
    const client = new Connection(server.url, post(long) + post(behind));
    await client.has('data: ');
    await eventually(async () => (await server.metric('paused_requests')) === 1);
    client.leave();
    await eventually(async () => (await running()) === 0);
    expect(await server.metric('paused_requests')).toBe(0);
  });

  it('go on once they are sent, where they were paused behind another', async () => {
    const behind = { ...long, n: 8, logprobs: 5, max_tokens: 600 };
    const client = new Connection(server.url, post(long) + post(behind, 'connection: close\r\n'));
    await eventually(async () => (await server.metric('paused_requests')) === 1);
    const [, first, second] = (await client.closed).split('HTTP/1.1 200 OK');
    expect(first!.match(/\[DONE\]/g)).toHaveLength(1);
    expect(second!.match(/"finish_reason":"length"/g)).toHaveLength(8);
    expect(second).toContain('[DONE]');
  });

  it.each([
    ['/v1/stream', '101 Switching Protocols'],
    ['/nowhere', '404 Not Found'],
  ])('that ask for an upgrade wait for their turn: %s', async (upgradePath, outcome) => {
    const upgrade =
      `GET ${upgradePath} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
      'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n';
    // A frame that closes what it opens.
    const close = '\x88\x80\x00\x00\x00\x00';
    const client = new Connection(server.url, post({ ...long, max_tokens: 20 }) + upgrade + close);
    const [, first, second] = (await client.closed).split('HTTP/1.1 ');
    expect(first).toMatch(/^200 OK/);
    expect(first!.trimEnd().endsWith('data: [DONE]\n\n\r\n0')).toBe(true);
    expect(second!.startsWith(outcome)).toBe(true);
  });

  it('leave a stream whole when they are no requests', async () => {
    const client = new Connection(server.url, post({ ...long, max_tokens: 100 }));
    await client.has('data: ');
    client.send('no request\r\n\r\n');
    client.send('and more of it\r\n\r\n');
    const [, answer, refusal] = (await client.closed).split('HTTP/1.1 ');
    expect(answer).toMatch(/^200 OK[\s\S]*"finish_reason":"length"[\s\S]*\[DONE\]\n\n\r\n0\r\n\r\n$/);
    expect(refusal).toMatch(/^400 Bad Request[\s\S]*malformed_request/);
  });

  it('leave an answer that is not streamed whole when they are no requests', async () => {
    const body = { ...long, stream: false, max_tokens: 20 };
    const client = new Connection(server.url, `${post(body)}no request\r\n\r\n`);
    const [, answer, refusal] = (await client.closed).split('HTTP/1.1 ');
    expect(answer).toMatch(/^200 OK/);
    expect(JSON.parse(answer!.split('\r\n\r\n')[1]!)).toMatchObject({ usage: { completion_tokens: 20 } });
    expect(refusal).toMatch(/^400 Bad Request/);
  });

  it('are refused at once where it is their own body that is none', async () => {
    const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`;
    const client = new Connection(server.url, `${head}5\r\n{"pro\r\nno length\r\n`);
    expect(await client.closed).toMatch(/^HTTP\/1.1 400 Bad Request[\s\S]*malformed_request/);
    expect(await running()).toBe(0);
  });
});
