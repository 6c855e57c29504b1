import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Settings } from '../../config/schema.js';
import { demoFolder } from '../support/demo.js';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { openMortal, serveUntilDeath } from './mortal-engine.js';
import { expectNothingLeaked, expectOthersServed, isLong } from './support.js';

let server: TestServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const settings = Settings.parse({
  model: { path: demoFolder },
  engine: { kvMemory: '64MiB', device: 'cpu', maxSequences: 64 },
});

const endless = { prompt: 'Hello', max_tokens: 1900, ignore_eos: true };

describe.each(['thread', 'process'] as const)("the engine's %s is killed while it writes", (kind) => {
  it('tells every client, answers 503 until there is another, and goes on', async () => {
    const first = await testServer({}, false);
    server = first;
    const mortal = await openMortal(kind, settings);
    const { reopen } = await serveUntilDeath(first, { mortal, next: await openMortal(kind, settings) });

    const streams = isLong ? 40 : 8;
    const streaming = await Promise.all(
      Array.from({ length: streams }, () => first.post('/v1/completions', { ...endless, stream: true })),
    );
    const whole = first.post('/v1/completions', endless);
    const response = first.post('/v1/responses', {
      input: 'Hello',
      max_output_tokens: 1900,
      ignore_eos: true,
    });
    const socket = new WebSocket(`${first.url.replace('http', 'ws')}/v1/stream`);
    await new Promise((resolve) => socket.once('open', resolve));
    const failed = new Promise((resolve) => {
      socket.on('message', (data) => {
        const frame = JSON.parse(String(data)) as { type: string };
        if (frame.type === 'error') resolve(frame);
      });
    });
    socket.send(JSON.stringify({ type: 'generate', id: 'a', request: endless }));
    await eventually(async () => (await first.metric('active_requests')) === streams + 3);
    mortal.kill();

    for (const text of await Promise.all(streaming.map((stream) => stream.text()))) {
      const last = text.trimEnd().split('\n\n').at(-1)!;
      expect(JSON.parse(last.slice('data: '.length))).toMatchObject({ error: { code: 'engine_failed' } });
    }
    expect((await whole).status).toBe(500);
    expect((await response).status).toBe(500);
    expect(await failed).toMatchObject({ id: 'a', error: { code: 'engine_failed' } });

    expect((await fetch(`${first.url}/health`)).status).toBe(200);
    expect((await fetch(`${first.url}/ready`)).status).toBe(503);
    const refused = await first.post('/v1/completions', endless);
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    reopen();
    await eventually(async () => (await fetch(`${first.url}/ready`)).ok);
    await expectOthersServed(first.url);
    // A socket outlives the engine.
    const done = new Promise((resolve) =>
      socket.on('message', (data) => /"done"/.test(String(data)) && resolve(data)),
    );
    socket.send(JSON.stringify({ type: 'generate', id: 'b', request: { prompt: 'Hello', max_tokens: 2 } }));
    await done;
    socket.close();
    expect(await first.metric('engine_restarts_total')).toBe(1);
    await expectNothingLeaked(first);
  });
});
