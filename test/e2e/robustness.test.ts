import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../support/server.js';

let server: TestServer;
beforeAll(async () => {
  server = await testServer({ engine: { maxSequences: 64, maxQueue: 1024 } });
});
afterAll(() => server.close());

async function expectAllFree(): Promise<void> {
  await eventually(async () => (await server.metric('active_requests')) === 0);
  await eventually(async () => (await server.metric('slots_open')) === 0);
  expect(await server.metric('num_requests_waiting')).toBe(0);
  await eventually(
    async () => (await server.metric('kv_blocks_used')) === (await server.metric('prefix_cache_blocks')),
  );
}

/** Small, seeded and good enough to choose moments. */
function sequence(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function rawRequest(body: string): string {
  return (
    'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n' +
    `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

describe('robustness', () => {
  it('serves 200 streams at once, whole and alike', async () => {
    const body = { messages: [{ role: 'user', content: 'Count to 10.' }], stream: true };
    const texts = await Promise.all(
      Array.from({ length: 200 }, async () => (await server.post('/v1/chat/completions', body)).text()),
    );
    const contents = texts.map((text) => {
      expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
      return [...text.matchAll(/"content":"([^"]*)"/g)].map(([, content]) => content).join('');
    });
    expect(new Set(contents)).toEqual(new Set(['1, 2, 3, 4, 5, 6, 7, 8, 9, 10.']));
    await expectAllFree();
  });

  it('outlives 1000 clients that leave at any point, half-sent bodies among them', async () => {
    const random = sequence(1);
    const port = Number(new URL(server.url).port);
    const body = JSON.stringify({ prompt: 'Hello', max_tokens: 200, ignore_eos: true, stream: true });
    const request = rawRequest(body);
    const visit = () =>
      new Promise<void>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        const sent = random() < 0.3 ? Math.floor(random() * request.length) : request.length;
        const stay = random() * 20_000;
        let received = 0;
        socket.on('connect', () => {
          socket.write(request.slice(0, sent));
          if (sent < request.length) setImmediate(() => socket.destroy());
        });
        socket.on('data', (data) => {
          received += data.length;
          if (received > stay) socket.destroy();
        });
        socket.on('error', () => resolve());
        socket.on('close', () => resolve());
      });
    let left = 1000;
    const worker = async (): Promise<void> => {
      while (left-- > 0) await visit();
    };
    await Promise.all(Array.from({ length: 50 }, worker));
    await expectAllFree();
  });

  it('pauses for readers that do not read, and serves others meanwhile', async () => {
    const port = Number(new URL(server.url).port);
    const body = JSON.stringify({
      prompt: Array.from({ length: 16 }, () => 'Hello'),
      n: 4,
      max_tokens: 1500,
      ignore_eos: true,
      stream: true,
      logprobs: 5,
    });
    const socket = connect(port, '127.0.0.1');
    socket.pause();
    socket.write(rawRequest(body));
    await eventually(async () => (await server.metric('num_requests_running')) > 0);
    const before = process.memoryUsage().rss;
    const other = await server.post('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'Count to 10.' }],
    });
    expect(other.status).toBe(200);
    expect(process.memoryUsage().rss - before).toBeLessThan(300 << 20);
    socket.destroy();
    await expectAllFree();
  });
});
