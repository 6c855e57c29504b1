import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, type TestServer, testServer } from '../../support/server.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-keys-'));
afterAll(() => rmSync(folder, { recursive: true }));

function keyFile(keys: object[]): string {
  const file = path.join(folder, `${keys.length}-${Math.random()}.json`);
  writeFileSync(file, JSON.stringify(keys));
  return file;
}

const as = (key: string) => ({ authorization: `Bearer ${key}` });
const count = { prompt: 'Hello', max_tokens: 10, ignore_eos: true };

async function errorOf(response: Response): Promise<{ message: string; code: string }> {
  return ((await response.json()) as { error: { message: string; code: string } }).error;
}

/** The frames of a socket that has been sent `frames`, until it has had `many`. */
async function talk(url: string, key: string, frames: object[], many: number): Promise<{ type: string }[]> {
  const socket = new WebSocket(url.replace('http', 'ws'), { headers: as(key) });
  const got: { type: string }[] = [];
  socket.on('message', (data) => got.push(JSON.parse(String(data))));
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  for (const frame of frames) socket.send(JSON.stringify(frame));
  await eventually(async () => got.filter(({ type }) => /error|done|completed/.test(type)).length >= many);
  socket.close();
  return got;
}

describe('responses of several keys', () => {
  let server: TestServer;
  let id: string;
  let itemId: string;
  beforeAll(async () => {
    server = await testServer({ server: { apiKey: ['anna-key', 'ben-key'] } });
    const made = await server.post('/v1/responses', { input: 'Count to 10.' }, as('anna-key'));
    const response = (await made.json()) as { id: string; output: { id: string }[] };
    id = response.id;
    itemId = response.output[0]!.id;
  });
  afterAll(() => server.close());
  const get = (what: string, key: string, method = 'GET') =>
    fetch(`${server.url}/v1/responses/${what}`, { method, headers: as(key) });

  it('are there for the key that made them, and for no other', async () => {
    expect((await get(id, 'anna-key')).status).toBe(200);
    for (const what of [id, `${id}/input_items`]) {
      const refused = await get(what, 'ben-key');
      expect(refused.status).toBe(404);
      // The same as of an id that nobody has.
      const { message } = await errorOf(await get(what.replace(id, 'resp_0'), 'ben-key'));
      expect((await errorOf(refused)).message).toBe(message.replace('resp_0', id));
    }
    expect((await get(`${id}/cancel`, 'ben-key', 'POST')).status).toBe(404);
    expect((await get(id, 'ben-key', 'DELETE')).status).toBe(404);
    expect((await get(id, 'anna-key')).status).toBe(200);
  });

  it('are gone on from by that key alone, over HTTP and on a socket', async () => {
    const next = { input: 'Go on.', previous_response_id: id, max_output_tokens: 2 };
    const refer = { input: [{ type: 'item_reference', id: itemId }], max_output_tokens: 2 };
    expect((await server.post('/v1/responses', next, as('anna-key'))).status).toBe(200);
    expect((await server.post('/v1/responses', refer, as('anna-key'))).status).toBe(200);
    const refused = await server.post('/v1/responses', next, as('ben-key'));
    expect(refused.status).toBe(400);
    expect((await errorOf(refused)).code).toBe('previous_response_not_found');
    expect((await errorOf(await server.post('/v1/responses', refer, as('ben-key')))).code).toBe(
      'item_not_found',
    );
    const frame = { type: 'response.create', ...next };
    const bens = await talk(`${server.url}/v1/responses`, 'ben-key', [frame], 1);
    expect(bens).toMatchObject([{ type: 'error', error: { code: 'previous_response_not_found' } }]);
    const annas = await talk(`${server.url}/v1/responses`, 'anna-key', [frame], 1);
    expect(annas.at(-1)!.type).not.toBe('error');
  });
});

describe('limits of keys', () => {
  let server: TestServer | undefined;
  afterEach(() => server?.close());

  it('refuse with 429, when to come again, and what is left; of one key and not of another', async () => {
    server = await testServer({
      server: {
        apiKeyFile: keyFile([
          { name: 'anna', key: 'anna-key', requestsPerMinute: 2 },
          { name: 'ben', key: 'ben-key' },
        ]),
        tokensPerMinute: 100_000,
      },
    });
    const first = await server.post('/v1/completions', count, as('anna-key'));
    expect(first.status).toBe(200);
    expect(first.headers.get('x-ratelimit-limit-requests')).toBe('2');
    expect(first.headers.get('x-ratelimit-remaining-requests')).toBe('1');
    expect(first.headers.get('x-ratelimit-limit-tokens')).toBe('100000');
    expect(first.headers.get('x-ratelimit-reset-requests')).toMatch(/^(\d+s|1m0s)$/);
    expect((await server.post('/v1/completions', count, as('anna-key'))).status).toBe(200);
    const refused = await server.post('/v1/completions', count, as('anna-key'));
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    const { code, message } = await errorOf(refused);
    expect(code).toBe('rate_limit_exceeded');
    expect(message).toContain("'anna' has used its 2 requests a minute");
    expect((await server.post('/v1/completions', count, as('ben-key'))).status).toBe(200);
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toContain('tandem:rate_limited_total{code="rate_limit_exceeded"} 1');
    expect(text).toContain('tandem:http_requests_total{status="429"} 1');
    // What is only read is not counted.
    expect((await fetch(`${server.url}/v1/models`, { headers: as('anna-key') })).status).toBe(200);
  });

  it('count tokens that are read and written, and a quota a day', async () => {
    server = await testServer({
      server: {
        apiKeyFile: keyFile([
          { name: 'anna', key: 'anna-key', tokensPerMinute: 1_000_000, tokensPerDay: 12 },
        ]),
      },
    });
    const { usage } = (await (await server.post('/v1/completions', count, as('anna-key'))).json()) as {
      usage: { total_tokens: number };
    };
    expect(usage.total_tokens).toBeGreaterThanOrEqual(11);
    // One token may be left, and one that is admitted may owe the rest.
    const statuses: number[] = [];
    let last: Response;
    do {
      last = await server.post('/v1/completions', count, as('anna-key'));
      statuses.push(last.status);
    } while (last.status === 200);
    expect(statuses.length).toBeLessThanOrEqual(2);
    expect((await errorOf(last)).code).toBe('quota_exceeded');
    expect(last.headers.get('x-ratelimit-remaining-tokens-day')).toBe('0');
    expect(last.headers.get('x-ratelimit-limit-tokens')).toBe('1000000');
  });

  it('are not used up by what the engine refuses', async () => {
    server = await testServer({ server: { tokensPerMinute: 5000 } });
    const before = await server.post('/v1/completions', { ...count, max_tokens: 100_000 });
    expect(before.status).toBe(400);
    const after = await server.post('/v1/completions', { ...count, max_tokens: 1 });
    expect(after.headers.get('x-ratelimit-remaining-tokens')).toBe('5000');
  });

  it('hold on sockets, where each request counts', async () => {
    server = await testServer({
      server: { apiKeyFile: keyFile([{ name: 'anna', key: 'anna-key', requestsPerMinute: 1 }]) },
    });
    const frames = ['a', 'b'].map((id) => ({ type: 'generate', id, request: { ...count, max_tokens: 2 } }));
    const got = await talk(`${server.url}/v1/stream`, 'anna-key', frames, 2);
    expect(got.filter(({ type }) => type === 'done')).toHaveLength(1);
    expect(got.filter(({ type }) => type === 'error')).toMatchObject([
      { id: 'b', error: { code: 'rate_limit_exceeded' } },
    ]);
  });

  it('bound the sockets of a key', async () => {
    server = await testServer({ server: { socketsPerKey: 1 } });
    const url = `${server.url.replace('http', 'ws')}/v1/stream`;
    const first = new WebSocket(url);
    await new Promise((resolve) => first.once('open', resolve));
    const refused = await new Promise((resolve) => new WebSocket(url).once('error', resolve));
    expect(String(refused)).toContain('429');
    first.close();
    await eventually(async () => (await server!.metric('websockets')) === 0);
    const again = new WebSocket(url);
    await new Promise((resolve, reject) => again.once('open', resolve).once('error', reject));
    again.close();
  });

  it('slow a socket that sends too many frames, and lose none', async () => {
    server = await testServer({ server: { framesPerSecond: 100 } });
    const frames = Array.from({ length: 150 }, (_, i) => ({ type: 'cancel', id: `none-${i}` }));
    const last = { type: 'generate', id: 'last', request: { ...count, max_tokens: 1 } };
    const got = await talk(`${server.url}/v1/stream`, 'none', [...frames, last], 1);
    expect(got.at(-1)).toMatchObject({ type: 'done', id: 'last' });
  });
});
