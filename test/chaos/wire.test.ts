import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { expectNothingLeaked, expectOthersServed, isLong, openConnection, sendRaw } from './support.js';

let server: TestServer;
beforeAll(async () => {
  server = await testServer({ server: { bodyLimit: 100_000 } });
});
afterAll(() => server.close());

const json = 'content-type: application/json\r\n';
const post = `POST /v1/completions HTTP/1.1\r\nhost: x\r\n${json}`;

/** Each with the status that it is answered with. */
const malformed: [string, string, number][] = [
  ['no request at all', '\0\0\0\0\r\n\r\n', 400],
  ['a version that there is not', 'GET / HTTP/9.9\r\n\r\n', 400],
  ['TLS', `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${'x'.repeat(40)}\r\n\r\n`, 400],
  ['a line that does not end', `GET /${'x'.repeat(70_000)} HTTP/1.1\r\n\r\n`, 431],
  ['too many headers', `GET /health HTTP/1.1\r\nhost: x\r\n${'a: b\r\n'.repeat(20_000)}\r\n`, 431],
  ['no host', 'GET /health HTTP/1.1\r\n\r\n', 400],
  ['a header with a line break of one kind', 'GET /health HTTP/1.1\r\nhost: x\r\na: b\nc: d\r\n\r\n', 400],
  ['a space before the colon', 'GET /health HTTP/1.1\r\nhost : x\r\n\r\n', 400],
  ['a NUL in a header', 'GET /health HTTP/1.1\r\nhost: x\r\na: \0\r\n\r\n', 400],
  ['two lengths', `${post}content-length: 5\r\ncontent-length: 6\r\n\r\n{"a":`, 400],
  ['a length and chunks', `${post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
  ['a negative length', `${post}content-length: -1\r\n\r\n`, 400],
  ['a length beyond all numbers', `${post}content-length: ${'9'.repeat(30)}\r\n\r\n`, 400],
  ['a length that is too large', `${post}content-length: 99999999999\r\n\r\n{`, 413],
  ['a chunk of no size', `${post}transfer-encoding: chunked\r\n\r\nzz\r\n`, 400],
  [
    'chunks that are too many',
    `${post}transfer-encoding: chunked\r\n\r\n${`1000\r\n${'a'.repeat(4096)}\r\n`.repeat(40)}0\r\n\r\n`,
    413,
  ],
  ['an encoding that there is not', `${post}content-encoding: lzma\r\ncontent-length: 2\r\n\r\n{}`, 415],
  ['gzip that is none', `${post}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}`, 400],
  ['an expectation that there is not', `${post}expect: the-unexpected\r\ncontent-length: 2\r\n\r\n{}`, 417],
  [
    'a path that decodes to nothing',
    'GET /v1/models/%E0%A4%A HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    400,
  ],
  [
    'a path of another server',
    'GET http://other/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    200,
  ],
  ['no path', 'OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n', 404],
  ['CONNECT', 'CONNECT other:443 HTTP/1.1\r\nhost: x\r\n\r\n', 0],
  [
    'an upgrade to what there is not',
    'GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
    404,
  ],
  [
    'an upgrade of a path that is no URL',
    'GET // HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
    404,
  ],
  [
    'an upgrade without a key',
    'GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
    400,
  ],
];

describe('what is no HTTP, or nearly none', () => {
  it.each(malformed)('%s is refused, and hurts nobody', async (_, bytes, status) => {
    const received = await sendRaw(server.url, bytes, (text) => /\r\n\r\n[\s\S]*[}\n]?$/.test(text));
    expect(received.slice(0, 12)).toBe(status === 0 ? '' : `HTTP/1.1 ${status}`);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  });

  it('is counted', async () => {
    expect(await server.metric('malformed_requests_total')).toBeGreaterThan(10);
    await expectOthersServed(server.url);
    await expectNothingLeaked(server);
  });

  it('is survived in any number of random bytes and broken requests', async () => {
    const whole = `${post}content-length: 40\r\n\r\n{"prompt":"Hello","max_tokens":1,"n":1 }`;
    for (let i = 0; i < (isLong ? 3000 : 150); i++) {
      const bytes = Buffer.from(whole);
      for (let k = 0; k <= i % 5; k++) bytes[(i * 7919 + k * 104_729) % bytes.length] = randomBytes(1)[0]!;
      const socket = await openConnection(server.url);
      const ended = new Promise((resolve) => socket.on('close', resolve).on('error', () => undefined));
      socket.end(i % 3 === 0 ? randomBytes(200) : bytes);
      socket.resume();
      await ended;
    }
    await expectOthersServed(server.url);
    await expectNothingLeaked(server);
  });
});

async function openSocket(path = '/v1/stream'): Promise<WebSocket> {
  const socket = new WebSocket(server.url.replace('http', 'ws') + path, { skipUTF8Validation: true });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  return socket;
}

function closeCode(socket: WebSocket): Promise<number> {
  return new Promise((resolve) => socket.once('close', resolve));
}

function nextFrame(
  socket: WebSocket,
): Promise<{ type: string; id?: string; error?: { code: string; message: string } }> {
  return new Promise((resolve) => socket.once('message', (data) => resolve(JSON.parse(String(data)))));
}

/** The connection under a socket, to write frames on that `ws` would not. */
const under = (socket: WebSocket) => (socket as unknown as { _socket: import('node:net').Socket })._socket;
const frame = (first: number, payload: Buffer | string, masked = true): Buffer => {
  const data = Buffer.from(payload);
  const head = data.length < 126 ? [data.length] : [126, data.length >> 8, data.length & 255];
  head[0]! |= masked ? 0x80 : 0;
  return Buffer.concat([Buffer.from([first, ...head]), masked ? Buffer.alloc(4) : Buffer.alloc(0), data]);
};

describe('frames that no client should send', () => {
  const request = JSON.stringify({ type: 'generate', id: 'a', request: { prompt: 'Hello', max_tokens: 2 } });

  it('in fragments of one byte each make the frame that they are', async () => {
    const socket = await openSocket();
    const done = new Promise((resolve) =>
      socket.on('message', (data) => /"done"/.test(String(data)) && resolve(1)),
    );
    [...request].forEach((byte, i) => {
      socket.send(byte, { fin: i === request.length - 1 });
    });
    await done;
    socket.close();
  });

  it.each<[string, Buffer[], number]>([
    ['a fragment that continues nothing', [frame(0x80, 'x')], 1002],
    ['a frame inside of another', [frame(0x01, 'x'), frame(0x81, 'y')], 1002],
    ['a reserved bit', [frame(0xf1, 'x')], 1002],
    ['a kind that there is not', [frame(0x83, 'x')], 1002],
    ['one without a mask', [frame(0x81, 'x', false)], 1002],
    ['a ping in fragments', [frame(0x09, 'x')], 1002],
    ['a ping that is too long', [frame(0x89, 'x'.repeat(200))], 1002],
    ['text that is no UTF-8', [frame(0x81, Buffer.from([0xff, 0xfe]))], 1007],
    ['a length of 2^62', [Buffer.from([0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])], 1009],
    [
      'fragments without end',
      Array.from({ length: 40 }, (_, i) => frame(i === 0 ? 1 : 0, 'x'.repeat(4000))),
      1009,
    ],
  ])('%s end the socket with its code, and no other', async (_, frames, code) => {
    const other = await openSocket();
    const socket = await openSocket();
    const closed = closeCode(socket);
    for (const bytes of frames) under(socket).write(bytes);
    expect(await closed).toBe(code);
    other.send(request);
    expect((await nextFrame(other)).type).toBe('delta');
    other.close();
  });

  it('longer than a body may be end the socket', async () => {
    for (const path of ['/v1/stream', '/v1/responses']) {
      const socket = await openSocket(path);
      const closed = closeCode(socket);
      socket.send('x'.repeat(200_000));
      expect(await closed).toBe(1009);
    }
  });

  it.each([
    ['empty', ''],
    ['binary', Buffer.from(request)],
    ['no JSON', '{"type":'],
    ['no object', '[]'],
    ['with an id of control characters that is no request', '{"type":"generate","id":"\\u0000\\u202e"}'],
    ['deep', '['.repeat(50_000)],
  ])('%s are answered with an error, and the socket goes on', async (_, data) => {
    for (const path of ['/v1/stream', '/v1/responses']) {
      const socket = await openSocket(path);
      const answered = nextFrame(socket);
      socket.send(data);
      const { type, error } = await answered;
      expect(type).toBe('error');
      if (typeof data !== 'string') expect(error!.message).toContain('send frames as text');
      const again = nextFrame(socket);
      socket.send('{"type":"nothing"}');
      expect((await again).type).toBe('error');
      socket.close();
    }
  });

  it('pings in floods, and sockets that close in the middle of anything, leave nothing', async () => {
    const sockets = await Promise.all(Array.from({ length: isLong ? 300 : 40 }, () => openSocket()));
    for (const [i, socket] of sockets.entries()) {
      for (let ping = 0; ping < 50; ping++) socket.ping();
      socket.send(
        JSON.stringify({
          type: 'generate',
          id: 'x',
          request: { prompt: 'Hi', max_tokens: 100, ignore_eos: true },
        }),
      );
      if (i % 3 === 0) socket.terminate();
      else if (i % 3 === 1) socket.once('message', () => socket.terminate());
      else socket.once('message', () => socket.close());
    }
    await eventually(async () => sockets.every(({ readyState }) => readyState === WebSocket.CLOSED));
    await expectOthersServed(server.url);
    await expectNothingLeaked(server);
  });
});
