import { afterEach, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../support/server.js';
import { TandemProcess } from './commands/tandem-process.js';

const adminKey = 'an admin key of the tests';
const admin = { authorization: `Bearer ${adminKey}` };

let server: TestServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe('/v1/admin', () => {
  it('is for the admin key alone, and not there without one', async () => {
    server = await testServer({ server: { adminKey, apiKey: ['a key'] } }, false);
    const get = (key: string) =>
      fetch(`${server!.url}/v1/admin`, { headers: { authorization: `Bearer ${key}` } });
    expect((await get(adminKey)).status).toBe(200);
    expect((await get('a key')).status).toBe(401);
    expect((await get('')).status).toBe(401);
    const nowhere = await server.post('/v1/admin/nothing', {}, admin);
    expect(nowhere.status).toBe(404);
    expect((await fetch(`${server.url}/v1/admin/drain`, { headers: admin })).status).toBe(405);
    // The admin key answers no prompts: it is not one of those with limits.
    expect((await fetch(`${server.url}/v1/models`, { headers: admin })).status).toBe(401);
    await server.close();
    server = await testServer({}, false);
    expect((await fetch(`${server.url}/v1/admin`, { headers: admin })).status).toBe(404);
  });

  it('shows what each key has used', async () => {
    server = await testServer({ server: { adminKey, apiKey: ['a key'], requestsPerMinute: 1 } });
    const key = { authorization: 'Bearer a key' };
    const { usage } = (await (
      await server.post('/v1/completions', { prompt: 'Hello', max_tokens: 3, ignore_eos: true }, key)
    ).json()) as { usage: { prompt_tokens: number } };
    await server.post('/v1/completions', { prompt: 'Hello' }, key);
    const state = (await (await fetch(`${server.url}/v1/admin`, { headers: admin })).json()) as {
      keys: object[];
    };
    expect(state).toMatchObject({ ready: true, draining: false, log_level: 'silent' });
    expect(state.keys).toEqual([
      {
        name: expect.stringMatching(/^key-[\da-f]{8}$/),
        requests: 1,
        refused: 1,
        prompt_tokens: usage.prompt_tokens,
        generated_tokens: 3,
        open_sockets: 0,
        limits: [{ name: 'requests a minute', limit: 1, remaining: 0 }],
      },
    ]);
  });

  it('changes the policy while streams run, and not one token of theirs', async () => {
    server = await testServer({ server: { adminKey }, engine: { cores: undefined } });
    const ask = async () => {
      const texts = Array.from({ length: 3 }, async (_, i) => {
        const body = { prompt: `Tell me of ${i}. `.repeat(20), max_tokens: 24, ignore_eos: true, seed: i };
        const answer = await server!.post('/v1/completions', body);
        return ((await answer.json()) as { choices: { text: string }[] }).choices[0]!.text;
      });
      return Promise.all(texts);
    };
    const expected = await ask();
    for (const scheduler of ['chunked', 'prefill-first', 'static', 'reactive', 'nexus']) {
      const asked = ask();
      const changed = await server.post('/v1/admin/policy', { scheduler }, admin);
      expect(changed.status).toBe(200);
      expect(await changed.json()).toMatchObject({ policy: scheduler });
      expect(await asked).toEqual(expected);
    }
    const refused = await server.post('/v1/admin/policy', { scheduler: 'fastest' }, admin);
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({ error: { param: 'scheduler' } });
    const empty = await server.post('/v1/admin/policy', {}, admin);
    expect(empty.status).toBe(400);
    const fields = "'scheduler', 'decode_slack', 'prefill_share', 'tbt_target_ms', 'ttft_target_ms'";
    expect(await empty.json()).toMatchObject({ error: { message: `Give at least one of ${fields}.` } });
  });

  it('changes what is logged, and drains: what runs ends whole, and the process with 0', async () => {
    const child = new TandemProcess(
      ['serve', '--port', '0', '--log-level', 'warn', '--grace-period-ms', '600000'],
      {
        env: { TANDEM_ADMIN_KEY: adminKey },
      },
    );
    try {
      const [, url] = await child.until('stdout', /on (http:\/\/\S+) /);
      const post = (path: string, body: object, headers: Record<string, string> = admin) =>
        fetch(url + path, {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
          body: JSON.stringify(body),
        });
      await post('/v1/completions', { prompt: 'before the change', max_tokens: 1 });
      expect((await post('/v1/admin/log-level', { level: 'info' })).status).toBe(200);
      const [change] = await child.until('stderr', /\{[^\n]*the log level was changed[^\n]*\}/);
      // What reads logs by their level finds this line's own, not the one asked for.
      expect(JSON.parse(change)).toMatchObject({ level: 40, logLevel: 'info' });
      const secret = 'nobody else should read this';
      await post('/v1/completions', { prompt: secret, max_tokens: 4 }, { 'x-request-id': 'mine' });
      const [line] = await child.until('stderr', /\{[^\n]*"id":"mine"[^\n]*\}/);
      expect(JSON.parse(line)).toMatchObject({
        id: 'mine',
        key: '',
        from: '127.0.0.1',
        method: 'POST',
        path: '/v1/completions',
        status: 200,
      });
      const [generation] = await child.until('stderr', /\{[^\n]*"msg":"generation"\}/);
      expect(JSON.parse(generation)).toMatchObject({ key: '', generatedTokens: 4, reason: 'length' });
      expect(child.stderr).not.toContain(secret);
      expect(child.stderr).not.toContain('before the change');
      expect(child.stderr.match(/"msg":"request"/g)!.length).toBe(2); // log-level itself, and this one

      const running = await post('/v1/completions', {
        prompt: 'x',
        max_tokens: 100,
        ignore_eos: true,
        stream: true,
      });
      expect((await post('/v1/admin/drain', {})).status).toBe(202);
      expect((await running.text()).trimEnd().endsWith('data: [DONE]')).toBe(true);
      expect(await child.exit).toBe(0);
    } finally {
      await child.kill();
    }
  });
});
