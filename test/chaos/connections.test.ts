import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Folder } from '../scripts/support.js';
import { TandemProcess } from '../server/commands/tandem-process.js';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { expectNothingLeaked, expectOthersServed, isLong, openConnection, rawPost } from './support.js';

let server: TestServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const begun = 'POST /v1/completions HTTP/1.1\r\nhost: x\r\n';

describe('many connections', () => {
  it('floods of 1000, silent or half a request each, keep nobody else from being served', async () => {
    const flooded = await testServer();
    server = flooded;
    for (const sent of isLong ? ['', begun, `${begun}content-length: 100\r\n\r\n{`] : [begun]) {
      const sockets = await Promise.all(Array.from({ length: 1000 }, () => openConnection(flooded.url)));
      for (const socket of sockets) {
        socket.on('error', () => undefined);
        if (sent !== '') socket.write(sent);
      }
      await eventually(async () => (await flooded.metric('http_connections')) >= 1000);
      await expectOthersServed(flooded.url);
      for (const socket of sockets) socket.destroy();
      // What asks for the figure is connected itself.
      await eventually(async () => (await flooded.metric('http_connections')) < 20);
    }
    await expectNothingLeaked(flooded);
  });

  it('floods of requests are answered or refused, each of them', async () => {
    // Few at a time and long answers, so that the queue is full however slowly the flood comes.
    const flooded = await testServer({ engine: { maxSequences: 4, maxQueue: 16 } });
    server = flooded;
    const body = { prompt: 'Hello', max_tokens: 64, ignore_eos: true };
    const answers = await Promise.all(
      Array.from({ length: isLong ? 4000 : 300 }, () => flooded.post('/v1/completions', body)),
    );
    const counted = new Map<number, number>();
    for (const answer of answers) {
      counted.set(answer.status, (counted.get(answer.status) ?? 0) + 1);
      const json = (await answer.json()) as { choices?: unknown[]; error?: { code: string } };
      if (answer.status === 200) expect(json.choices).toHaveLength(1);
      else {
        expect([answer.status, json.error?.code]).toEqual([429, 'queue_full']);
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      }
    }
    expect(counted.get(200)).toBeGreaterThan(4);
    expect(counted.get(429)).toBeGreaterThan(0);
    await expectOthersServed(flooded.url);
    await expectNothingLeaked(flooded);
  });

  it('more than may be are closed and counted, and there is room again when some leave', async () => {
    const limited = await testServer({ server: { maxConnections: 50 } });
    server = limited;
    const sockets: Socket[] = [];
    for (let i = 0; i < 120; i++) {
      const socket = await openConnection(limited.url);
      socket.on('error', () => undefined);
      sockets.push(socket);
    }
    await eventually(
      async () => sockets.filter(({ destroyed, readableEnded }) => destroyed || readableEnded).length >= 70,
    );
    for (const socket of sockets) socket.destroy();
    await eventually(async () => (await limited.metric('dropped_connections_total').catch(() => 0)) >= 70);
    await expectOthersServed(limited.url);
    await expectNothingLeaked(limited);
  });
});

describe('requests that never end', () => {
  it.runIf(isLong)('are answered 408 and counted, and their connections closed', async () => {
    const slow = await testServer();
    server = slow;
    const sockets = await Promise.all(Array.from({ length: 100 }, () => openConnection(slow.url)));
    const answers = sockets.map((socket) => {
      let text = '';
      socket
        .on('error', () => undefined)
        .on('data', (data) => {
          text += data;
        });
      socket.write(begun);
      return new Promise<string>((resolve) => socket.on('close', () => resolve(text)));
    });
    for (const answer of await Promise.all(answers)) {
      expect(answer.slice(0, 12)).toBe('HTTP/1.1 408');
      expect(answer).toContain('too slowly');
    }
    expect(await slow.metric('malformed_requests_total')).toBe(100);
    await expectOthersServed(slow.url);
    await expectNothingLeaked(slow);
  });
});

describe('a process that may open few files', () => {
  it('never runs out of them: connections are closed instead, and what it needs itself goes on', async () => {
    using folder = new Folder();
    const child = new TandemProcess(
      ['serve', '--port', '0', '--log-level', 'warn', '--store-file', folder.at('responses.db')],
      { shell: 'ulimit -n 384 && exec "$@"' },
    );
    try {
      const [, url] = await child.until('stdout', /on (http:\/\/\S+) /);
      const asked = { input: 'Count to 10.', max_output_tokens: 3 };
      // The first of these starts a thread that compiles grammars, which opens a file for each of its modules.
      const formed = { ...asked, text: { format: { type: 'json_object' } } };
      for (let round = 0; round < (isLong ? 10 : 1); round++) {
        const sockets: Socket[] = [];
        for (let i = 0; i < 450; i++) {
          const socket = await openConnection(url!);
          socket.on('error', () => undefined);
          socket.write(rawPost('/v1/responses', JSON.stringify(i < 100 ? asked : formed)));
          sockets.push(socket);
        }
        await eventually(async () =>
          sockets.some(({ destroyed, readableEnded }) => destroyed || readableEnded),
        );
        for (const socket of sockets) socket.destroy();
        const isReady = async () => (await fetch(`${url}/ready`).catch(() => undefined))?.ok === true;
        await Promise.race([
          eventually(isReady),
          child.exit.then((code) => expect(`ended with ${code}: ${child.stderr}`).toBe('running')),
        ]);
        await expectOthersServed(url!);
      }
      // Responses are written to a file while connections are refused.
      const kept = await fetch(`${url}/v1/responses`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ input: 'Hello', max_output_tokens: 2 }),
      });
      const { id } = (await kept.json()) as { id: string };
      expect((await fetch(`${url}/v1/responses/${id}`)).status).toBe(200);
      const metrics = await (await fetch(`${url}/metrics`)).text();
      expect(Number(/^tandem:dropped_connections_total (\d+)$/m.exec(metrics)![1])).toBeGreaterThan(0);
      expect(child.stderr).not.toContain('was not kept');
      child.child.kill('SIGTERM');
      expect(await child.exit).toBe(0);
    } finally {
      await child.kill();
    }
  });
});

describe('clients that do not read, or leave', () => {
  it('pause their own streams alone, which the metric tells, and leave nothing behind', async () => {
    const stalled = await testServer({ engine: { maxSequences: 64, maxQueue: 1024 } });
    server = stalled;
    // As many bytes a token as can be: the system itself holds some megabytes for a connection.
    const body = {
      messages: [{ role: 'user', content: 'Hello' }],
      n: 16,
      max_tokens: 1500,
      ignore_eos: true,
      stream: true,
      logprobs: true,
      top_logprobs: 20,
    };
    const sockets = await Promise.all(
      Array.from({ length: isLong ? 8 : 1 }, async () => {
        const socket = await openConnection(stalled.url);
        socket.on('error', () => undefined).pause();
        socket.write(rawPost('/v1/chat/completions', JSON.stringify(body)));
        return socket;
      }),
    );
    await eventually(async () => (await stalled.metric('paused_requests')) > 0);
    await expectOthersServed(stalled.url);
    for (const socket of sockets) socket.destroy();
    await expectNothingLeaked(stalled);
    expect(await stalled.metric('paused_requests')).toBe(0);
    expect(await stalled.metric('stream_stall_seconds_total')).toBeGreaterThan(0);
  });

  it('pause the streams of their own socket alone', async () => {
    const stalled = await testServer({ engine: { maxSequences: 64, maxQueue: 1024 } });
    server = stalled;
    const open = async (): Promise<WebSocket> => {
      const socket = new WebSocket(`${stalled.url.replace('http', 'ws')}/v1/stream`);
      await new Promise((resolve) => socket.once('open', resolve));
      return socket;
    };
    const request = {
      messages: [{ role: 'user', content: 'Hello' }],
      max_tokens: 500,
      ignore_eos: true,
      logprobs: true,
      top_logprobs: 20,
    };
    const deaf = await open();
    deaf.pause();
    for (let id = 0; id < 16; id++) {
      deaf.send(JSON.stringify({ type: 'generate', id: `${id}`, request }));
    }
    await eventually(async () => (await stalled.metric('paused_requests')) > 0);
    const other = await open();
    const done = new Promise<string>((resolve) =>
      other.on('message', (data) => /"done"/.test(String(data)) && resolve(String(data))),
    );
    other.send(
      JSON.stringify({
        type: 'generate',
        id: 'a',
        request: { prompt: 'Hello', max_tokens: 100, ignore_eos: true },
      }),
    );
    expect(JSON.parse(await done)).toMatchObject({ id: 'a', usage: { completion_tokens: 100 } });
    // It hears all of what it was sent, once it listens again.
    const ends = new Set<string>();
    deaf.on('message', (data) => {
      const { type, id } = JSON.parse(String(data)) as { type: string; id: string };
      if (type === 'done') ends.add(id);
    });
    deaf.resume();
    await eventually(async () => ends.size === 16);
    deaf.close();
    other.close();
    await expectNothingLeaked(stalled);
    expect(await stalled.metric('paused_requests')).toBe(0);
  });

  it('drop at any moment of any kind of request', async () => {
    const left = await testServer({ engine: { maxSequences: 64, maxQueue: 1024 } });
    server = left;
    const bodies: [string, object][] = [
      ['/v1/completions', { prompt: 'Hello', max_tokens: 200, ignore_eos: true, stream: true }],
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Count to 10.' }], n: 4, stream: true }],
      ['/v1/responses', { input: 'Count to 10.', stream: true }],
      [
        '/v1/responses',
        { input: 'Count to 10.', text: { format: { type: 'json_object' } }, max_output_tokens: 20 },
      ],
      ['/tokenize', { prompt: 'word '.repeat(20_000) }],
    ];
    const visit = async (i: number): Promise<void> => {
      const [path, body] = bodies[i % bodies.length]!;
      const request = rawPost(path, JSON.stringify(body));
      const socket = await openConnection(left.url);
      const gone = new Promise((resolve) => socket.on('close', resolve).on('error', () => undefined));
      socket.write(i % 4 === 0 ? request.slice(0, (i * 7919) % request.length) : request);
      if (i % 4 === 0) setImmediate(() => socket.destroy());
      else if (i % 4 === 1) setTimeout(() => socket.resetAndDestroy(), i % 50);
      else socket.once('data', () => socket.destroy());
      await gone;
    };
    const visits = isLong ? 3000 : 200;
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let i = next++; i < visits; i = next++) await visit(i);
    };
    await Promise.all(Array.from({ length: 40 }, worker));
    await expectOthersServed(left.url);
    await expectNothingLeaked(left);
  });
});
