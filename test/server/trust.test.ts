import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../support/server.js';

interface LogLine {
  readonly msg: string;
  readonly [field: string]: unknown;
}

const secret = 'the zebra is in the kitchen';
const chat = { messages: [{ role: 'user', content: secret }], max_tokens: 4, ignore_eos: true };
const as = (key: string) => ({ authorization: `Bearer ${key}` });

let server: TestServer;
const log: string[] = [];
/** Whatever would be fetched would be fetched from here. */
let elsewhere: Server;
let asked = 0;
beforeAll(async () => {
  elsewhere = createServer((_, response) => response.end('{}'));
  elsewhere.on('connection', () => asked++);
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  const logger = pino({ level: 'info' }, { write: (line) => log.push(line) });
  server = await testServer({ server: { apiKey: ['a-secret-key'] } }, true, logger);
});
afterAll(async () => {
  elsewhere.close();
  await server.close();
});

describe('the log', () => {
  it('has a line for each request and each answer, with who and how much, and nothing of what was said', async () => {
    log.length = 0;
    const answer = await server.post('/v1/chat/completions', chat, {
      ...as('a-secret-key'),
      'x-request-id': 'mine-7',
    });
    const { choices } = (await answer.json()) as { choices: { message: { content: string } }[] };
    await eventually(async () => log.length === 2);
    const lines = log.map((line) => JSON.parse(line) as LogLine);
    const key = expect.stringMatching(/^\w/);
    expect(lines.find(({ msg }) => msg === 'request')).toMatchObject({
      id: 'mine-7',
      key,
      from: '127.0.0.1',
      method: 'POST',
      path: '/v1/chat/completions',
      status: 200,
      ms: expect.any(Number),
    });
    expect(lines.find(({ msg }) => msg === 'generation')).toMatchObject({
      key,
      promptTokens: expect.any(Number),
      generatedTokens: 4,
      reason: 'length',
    });
    for (const text of [secret, choices[0]!.message.content, 'a-secret-key']) {
      expect(log.join('')).not.toContain(text);
    }
  });

  it('has one for what is refused, whoever asked', async () => {
    log.length = 0;
    await server.post('/v1/chat/completions', chat, as(`${secret} as a key`));
    await server.post('/v1/chat/completions', `{"${secret}`, as('a-secret-key'));
    await eventually(async () => log.length === 2);
    expect(log.map((line) => (JSON.parse(line) as LogLine).status)).toEqual([401, 400]);
    expect(log.join('')).not.toContain(secret);
  });
});

describe('answers', () => {
  it('have headers that keep browsers from running, framing or keeping them, also when they are refusals', async () => {
    for (const [path, headers] of [
      ['/v1/models', as('a-secret-key')],
      ['/v1/models', {}],
      ['/health', {}],
      ['/nothing', as('a-secret-key')],
    ] as const) {
      const answer = await fetch(server.url + path, { headers });
      expect(Object.fromEntries(answer.headers), path).toMatchObject({
        'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
        'cross-origin-resource-policy': 'same-origin',
        'cache-control': 'no-store',
      });
      expect(answer.headers.get('x-powered-by')).toBeNull();
      expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    }
  });
});

describe('addresses in requests', () => {
  it('are never fetched, wherever they stand', async () => {
    const url = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/x.json`;
    const message = (part: object) => ({ messages: [{ role: 'user', content: [part] }], max_tokens: 1 });
    const item = (part: object) => ({ input: [{ role: 'user', content: [part] }], max_output_tokens: 1 });
    const schema = (value: object) => ({
      ...chat,
      response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema: value } },
    });
    const refused: [string, object][] = [
      ['chat/completions', message({ type: 'image_url', image_url: { url } })],
      ['chat/completions', message({ type: 'input_audio', input_audio: { data: url, format: 'wav' } })],
      ['responses', item({ type: 'input_image', image_url: url })],
      ['responses', item({ type: 'input_file', file_url: url })],
      ['responses', { input: 'x', tools: [{ type: 'mcp', server_label: 'x', server_url: url }] }],
      ['chat/completions', schema({ $ref: url })],
      ['chat/completions', schema({ $id: url, $ref: 'other.json' })],
    ];
    for (const [path, body] of refused) {
      const answer = await server.post(`/v1/${path}`, body, as('a-secret-key'));
      const { error } = (await answer.json()) as { error: { message: string } };
      expect([answer.status, error.message.length > 10], JSON.stringify(body)).toEqual([400, true]);
    }
    const mentioned = await server.post(
      '/v1/chat/completions',
      { ...chat, messages: [{ role: 'user', content: `Read ${url}` }], metadata: { url }, user: url },
      as('a-secret-key'),
    );
    expect(mentioned.status).toBe(200);
    expect(asked).toBe(0);
  });
});
