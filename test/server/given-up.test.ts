import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { GrammarCompiler } from '../../server/grammar/grammar-compiler.js';
import { Preparer } from '../../server/prepare/preparer.js';
import { demoFolder } from '../support/demo.js';
import { type TestServer, testServer } from '../support/server.js';

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());
afterEach(() => {
  vi.restoreAllMocks();
});

const grammar = 'root ::= "yes"';
const messages = [{ role: 'user', content: 'Yes?' }];

/** The next grammar that is asked for never comes. Resolves to what tells that nobody waits for it. */
function neverCompiled(): Promise<AbortSignal> {
  return new Promise((resolve) => {
    vi.spyOn(GrammarCompiler.prototype, 'compile').mockImplementation((_, waitedFor) => {
      resolve(waitedFor!);
      return new Promise(() => undefined);
    });
  });
}

async function socketTo(path: string): Promise<WebSocket> {
  const socket = new WebSocket(server.url.replace('http', 'ws') + path);
  await once(socket, 'open');
  return socket;
}

async function expectAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

describe('a body that is being prepared', () => {
  it.each([
    ['chat/completions', { messages }],
    ['completions', { prompt: 'Yes?' }],
    ['responses', { input: 'Yes?' }],
  ])('is given up when its client leaves: %s', async (path, body) => {
    const compiling = neverCompiled();
    const client = new AbortController();
    const answer = fetch(`${server.url}/v1/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, grammar }),
      signal: client.signal,
    });
    const waitedFor = await compiling;
    expect(waitedFor.aborted).toBe(false);
    client.abort();
    await expect(answer).rejects.toThrow();
    await expectAborted(waitedFor);
  });

  it('is given up when it is cancelled on a socket, whose id is free then', async () => {
    const socket = await socketTo('/v1/stream');
    const compiling = neverCompiled();
    socket.send(JSON.stringify({ type: 'generate', id: 'a', request: { messages, grammar } }));
    const waitedFor = await compiling;
    socket.send(JSON.stringify({ type: 'cancel', id: 'a' }));
    await expectAborted(waitedFor);
    socket.send(JSON.stringify({ type: 'generate', id: 'a', request: { messages, max_tokens: 1 } }));
    const [frame] = await once(socket, 'message');
    expect(JSON.parse(String(frame))).toMatchObject({ type: 'delta', id: 'a' });
    socket.close();
  });

  it.each([
    ['/v1/stream', { type: 'generate', id: 'a', request: { messages, grammar } }],
    ['/v1/responses', { type: 'response.create', input: 'Yes?', grammar }],
  ])('is given up when its socket closes: %s', async (path, frame) => {
    const socket = await socketTo(path);
    const compiling = neverCompiled();
    socket.send(JSON.stringify(frame));
    const waitedFor = await compiling;
    socket.close();
    await expectAborted(waitedFor);
  });

  it('is refused with 408 at its deadline, and its grammar given up', async () => {
    const compiling = neverCompiled();
    const answer = await server.post('/v1/chat/completions', {
      messages,
      grammar,
      tandem: { deadline_ms: 20 },
    });
    expect([answer.status, await answer.json()]).toEqual([
      408,
      {
        error: {
          message: 'The deadline of 20 ms has passed.',
          type: 'timeout_error',
          param: null,
          code: 'deadline_exceeded',
        },
      },
    ]);
    expect((await compiling).aborted).toBe(true);
  });

  it('is not begun in the thread of large ones when its client has left before its turn', async () => {
    const source = {
      folder: demoFolder,
      model: 'demo',
      contextLength: 100_000,
      trainedLength: 2048,
      maxChoices: 1,
      maxPrompts: 1,
      maxImages: 0,
      maxImagePixels: 1,
    };
    const preparer = await Preparer.open(source, { most: 2, bytes: 1e9 });
    const client = new AbortController();
    const text = 'word '.repeat(20_000);
    const asked = [
      preparer.prepare('completion', Buffer.from(JSON.stringify({ prompt: text }))),
      // No JSON, which who reads it finds.
      preparer.prepare('completion', Buffer.from(text), { left: client.signal }),
      preparer.prepare('completion', Buffer.from(text)),
    ];
    client.abort();
    const [first, abandoned, last] = await Promise.allSettled(asked);
    expect(first).toMatchObject({ value: { prompts: [{ partNames: { prompt: 'prompt' } }] } });
    expect(abandoned).toMatchObject({ reason: { status: 499, type: 'client_left' } });
    expect(last).toMatchObject({ reason: { status: 400, details: { code: 'invalid_json' } } });
    await preparer.close();
  });

  it('has less of its deadline left when it has become a request', async () => {
    const submit = vi.spyOn(server.engine, 'submit');
    const compile = GrammarCompiler.prototype.compile;
    let tookMs = 0;
    vi.spyOn(GrammarCompiler.prototype, 'compile').mockImplementation(async function (
      this: GrammarCompiler,
      source,
    ) {
      const begin = performance.now();
      const compiled = await compile.call(this, source);
      tookMs = performance.now() - begin;
      return compiled;
    });
    const answer = await server.post('/v1/chat/completions', {
      messages,
      grammar,
      tandem: { deadline_ms: 60_000 },
    });
    expect(answer.status).toBe(200);
    const [request] = submit.mock.lastCall!;
    expect(request.deadlineMs).toBe(60_000);
    expect(request.passedMs).toBeGreaterThanOrEqual(tookMs);
  });
});
