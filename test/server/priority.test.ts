import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../support/server.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-priority-'));
afterAll(() => rmSync(folder, { recursive: true }));
let server: TestServer;
afterEach(() => server.close());

/** One request at a time is served; the first one keeps the others waiting until all of them are there. */
async function orderOf(keys: readonly (readonly [key: string, priority: number])[]): Promise<number[]> {
  const apiKeyFile = path.join(folder, 'keys.json');
  writeFileSync(
    apiKeyFile,
    JSON.stringify([
      { name: 'anyone', key: 'any', maxPriority: 0 },
      { name: 'operator', key: 'operator' },
    ]),
  );
  server = await testServer({ engine: { maxSequences: 1 }, server: { apiKeyFile } });
  const ask = (key: string, maxTokens: number, priority: number) =>
    server.post(
      '/v1/completions',
      { prompt: 'Hello', max_tokens: maxTokens, ignore_eos: true, tandem: { priority } },
      { authorization: `Bearer ${key}` },
    );
  const first = ask('operator', 500, 0);
  await eventually(async () => (await server.metric('num_requests_running')) === 1);
  const order: number[] = [];
  const others: Promise<unknown>[] = [];
  for (const [i, [key, priority]] of keys.entries()) {
    others.push(
      ask(key, 2, priority).then(async (answer) => {
        expect(answer.status).toBe(200);
        await answer.text();
        order.push(i);
      }),
    );
    await eventually(async () => (await server.metric('num_requests_waiting')) === i + 1);
  }
  await Promise.all([first, ...others]);
  return order;
}

describe('tandem.priority', () => {
  it('lets who asks for a higher one go first, and those of one priority as they came', async () => {
    const order = await orderOf([
      ['operator', 0],
      ['operator', -5],
      ['operator', 9],
      ['operator', 0],
      ['operator', 9],
    ]);
    expect(order).toEqual([2, 4, 0, 3, 1]);
  });

  it('is no higher than what the key may ask for', async () => {
    const order = await orderOf([
      ['operator', 1],
      ['any', 100],
      ['operator', 2],
    ]);
    expect(order).toEqual([2, 0, 1]);
  });
});
