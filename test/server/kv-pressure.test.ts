import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestServer, testServer } from '../support/server.js';

const blockBytes = 32 * 6144;
const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-kv-pressure-'));
let server: TestServer;

beforeAll(async () => {
  const apiKeyFile = path.join(folder, 'keys.json');
  const keys = [
    { name: 'anyone', key: 'any' },
    { name: 'careful', key: 'careful', kvPressure: 'off' },
  ];
  writeFileSync(apiKeyFile, JSON.stringify(keys));
  server = await testServer({
    engine: { kvPressure: 'int8', kvMemory: 60 * blockBytes, prefixCache: false },
    server: { apiKeyFile },
  });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

/** Of an answer to a long prompt, beside others like it. */
async function kvOf(key: string, tandem: object): Promise<{ tokens: number; bytes: number }> {
  const body = {
    prompt: Array.from({ length: 480 }, (_, i) => 300 + ((i * 37) % 1000)),
    max_tokens: 200,
    ignore_eos: true,
    tandem: { kv: true, ...tandem },
  };
  const answer = await server.post('/v1/completions', body, { authorization: `Bearer ${key}` });
  const { usage } = (await answer.json()) as {
    usage: { tandem: { kv: { tokens: number; bytes: number } } };
  };
  return usage.tandem.kv;
}

describe('--kv-pressure', () => {
  it('squeezes no request further than it and its key allow', async () => {
    const [byKey, byRequest, further, ...free] = await Promise.all([
      kvOf('careful', { kv_pressure: 'pack' }),
      kvOf('any', { kv_pressure: false }),
      kvOf('any', { kv_pressure: 'int4' }),
      kvOf('any', { kv_pressure: true }),
      kvOf('any', {}),
    ]);
    for (const { tokens, bytes } of [byKey, byRequest]) {
      expect(bytes).toBe(Math.ceil(tokens / 32) * blockBytes);
    }
    const smallest = Math.min(...[further, ...free].map(({ bytes }) => bytes));
    expect(smallest).toBeLessThan(0.8 * byKey.bytes);
  });

  it('refuses a level that there is not, by name', async () => {
    const body = { prompt: 'Hello', tandem: { kv_pressure: 'much' } };
    const answer = await server.post('/v1/completions', body, { authorization: 'Bearer any' });
    expect(answer.status).toBe(400);
    expect(await answer.text()).toContain('kv_pressure');
  });
});
