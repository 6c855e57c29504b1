import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { HelloFrame, LiveFrame, SampleFrame } from '../../../server/live/live-protocol.js';
import { eventually, type TestServer, testServer } from '../../support/server.js';

let server: TestServer;
const sockets: WebSocket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  await server.close();
});

interface Watcher {
  readonly frames: LiveFrame[];
  readonly socket: WebSocket;
  hello(): HelloFrame;
  samples(): SampleFrame[];
}

async function watch(url: string, protocols: string[] = [], headers = {}): Promise<Watcher> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/debug/live`, protocols, { headers });
  sockets.push(socket);
  const frames: LiveFrame[] = [];
  socket.on('message', (data) => frames.push(JSON.parse(String(data))));
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve);
    socket.on('error', reject);
  });
  return {
    frames,
    socket,
    hello: () => frames.findLast(({ type }) => type === 'hello') as HelloFrame,
    samples: () => frames.filter(({ type }) => type === 'sample') as SampleFrame[],
  };
}

describe('WS /debug/live', () => {
  it('says what runs, and how requests fared', async () => {
    server = await testServer();
    const body = { messages: [{ role: 'user', content: 'A secret word is plover.' }], max_tokens: 5 };
    await (await server.post('/v1/chat/completions', body)).json();
    const { frames, hello, samples } = await watch(server.url);
    await eventually(async () => samples().length > 0);
    expect(frames[0]!.type).toBe('hello');
    expect(hello().engine).toMatchObject({ model: 'demo', contextLength: 2048, device: { kind: 'cpu' } });
    expect(hello().requests).toHaveLength(1);
    expect(hello().requests[0]).toMatchObject({
      number: 1,
      kind: 'chatcmpl',
      completionTokens: 5,
      state: 'length',
    });

    await (await server.post('/v1/chat/completions', { ...body, n: 2, stop: ['.'] })).json();
    await eventually(async () => samples().some(({ ended }) => ended.length > 0));
    const { ended } = samples().find(({ ended }) => ended.length > 0)!;
    expect(ended).toHaveLength(1);
    expect(ended[0]).toMatchObject({ choices: 2, promptTokens: hello().requests[0]!.promptTokens });
    expect(ended[0]!.ttftMs).toBeGreaterThan(0);
    expect(ended[0]!.tbtMs).toBeLessThanOrEqual(ended[0]!.maxTbtMs!);

    const count = (counts: readonly number[]) =>
      counts.filter((_, at) => at % 2 === 1).reduce((a, b) => a + b, 0);
    const total = (of: 'ttft' | 'tbt') => samples().reduce((sum, sample) => sum + count(sample[of]), 0);
    await eventually(async () => total('ttft') === 2);
    expect(total('tbt')).toBe(ended[0]!.completionTokens - 2);
    // A sample may have asked the engine just before the request ended.
    const generated = () => samples().at(-1)!.engine!.stats.generatedTokens;
    await eventually(async () => generated() === 5 + ended[0]!.completionTokens);
    const { engine, status } = samples().at(-1)!;
    expect(status).toBe('ready');
    expect(engine!.stats.promptTokensRead).toBeGreaterThan(0);
    expect(engine!.stats.unitSeconds.prefill).toBeGreaterThan(0);
    expect(engine!.scheduler.policy).toBe('nexus');
    // No word of what was asked or answered, nor the id by which it could be got.
    const stored = await server.post('/v1/responses', { input: 'Hello!', max_output_tokens: 3 });
    const { id } = (await stored.json()) as { id: string };
    await eventually(async () => samples().some(({ ended }) => ended[0]?.kind === 'resp'));
    expect(JSON.stringify(frames)).not.toContain('plover');
    expect(JSON.stringify(frames)).not.toContain(id.slice(5));
  });

  it('shows a request while it runs, and that its client left', async () => {
    server = await testServer();
    const { samples } = await watch(server.url);
    const leaving = new AbortController();
    const answer = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Hello', max_tokens: 2000, ignore_eos: true, stream: true }),
      signal: leaving.signal,
    });
    await eventually(async () => samples().some(({ running }) => running[0]?.state === 'running'));
    leaving.abort();
    await answer.text().catch(() => undefined);
    await eventually(async () => samples().some(({ ended }) => ended[0]?.state === 'abort'));
    await eventually(async () => samples().at(-1)!.running.length === 0);
  });

  it('is open while the model loads, and greets anew when it is there', async () => {
    server = await testServer({}, false);
    const { frames, hello, samples } = await watch(server.url);
    await eventually(async () => samples().length > 0);
    expect(samples()[0]).toMatchObject({ status: 'loading' });
    expect(hello().engine).toBeUndefined();
    const other = await testServer();
    await server.serve(other.engine);
    await eventually(async () => hello().engine !== undefined);
    expect(frames.filter(({ type }) => type === 'hello')).toHaveLength(2);
  });

  it('needs a key, which a browser sends as a subprotocol', async () => {
    server = await testServer({ server: { apiKey: ['täst key'] } }, false);
    await expect(watch(server.url)).rejects.toThrow('401');
    const wrong = `tandem.key.${Buffer.from('other').toString('base64url')}`;
    await expect(watch(server.url, ['tandem', wrong])).rejects.toThrow('401');
    const right = `tandem.key.${Buffer.from('täst key').toString('base64url')}`;
    const { socket, hello } = await watch(server.url, ['tandem', right]);
    // The key is not said back.
    expect(socket.protocol).toBe('tandem');
    await eventually(async () => hello() !== undefined);
    // A header goes before it.
    const header = { authorization: 'Bearer other' };
    await expect(watch(server.url, ['tandem', right], header)).rejects.toThrow('401');
  });

  it('is refused to pages of other origins, unless they may call', async () => {
    server = await testServer({ server: { corsOrigin: ['https://friend.example'] } }, false);
    await expect(watch(server.url, [], { origin: 'https://evil.example' })).rejects.toThrow('403');
    await expect(watch(server.url, [], { origin: 'null' })).rejects.toThrow('403');
    await watch(server.url, [], { origin: 'https://friend.example' });
    await watch(server.url, [], { origin: server.url });
  });
});
