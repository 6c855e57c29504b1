import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { bench, measure } from './bench.js';
import { benchHere } from './run-here.js';

describe('tandem bench serve', () => {
  let server: TestServer;
  let running: string[];
  beforeAll(async () => {
    server = await testServer({ server: { apiKey: ['secret'] } });
    running = ['serve', '--url', server.url, '--api-key', 'secret'];
  });
  afterAll(() => server.close());

  it('keeps clients busy, each with one request at a time', async () => {
    const { row } = await measure(
      ...running,
      ...['--requests', '6', '--concurrency', '2', '--prompt', '20', '--output', '5', '--slo', 'e2e=600s'],
    );
    expect(row('requests').value).toBe(6);
    expect(row('failed requests').value).toBe(0);
    expect(row('goodput').value).toBe(row('throughput').value);
    // 20 tokens are read for 5 that are generated, to the four digits that a row has.
    expect(row('prompt tokens').value / row('generated tokens').value).toBeCloseTo(4, 2);
    expect(row('TTFT p50').value).toBeLessThanOrEqual(row('E2E p50').value);
    expect(row('TBT max').unit).toBe('ms');
  });

  it('lets requests arrive at a rate, and says which are too long for the context', async () => {
    const args = ['--requests', '2', '--rate', '200', '--prompt', '3000', '--output', '2'];
    const { code, stdout, stderr } = await bench(...running, ...args);
    expect(code).toBe(0);
    expect(stderr).toContain('2 of 2 requests are shortened to the context of 2048 tokens');
    expect(stdout).toMatch(/^failed requests +0 requests$/m);
  });

  it('compares running streams with and without long prompts beside them', async () => {
    const { row } = await measure(
      ...running,
      ...['--scenario', 'mixed', '--streams', '2', '--long-prompt', '200', '--seconds', '0.3'],
    );
    const idle = row('TBT of 2 streams, p99');
    const busy = row('TBT while prompts of 200 tokens arrive, p99');
    expect(busy.baseline).toBe(idle.value);
    expect(row('TTFT of a prompt of 200 tokens beside 2 streams, p50').baseline).toBe(
      row('TTFT of a prompt of 200 tokens alone, p50').value,
    );
    expect(row('prompts that arrived').value).toBeGreaterThan(0);
  });

  it('replays a recorded trace, each request at its time', async () => {
    using folder = new Folder({
      'trace.jsonl': [
        '{"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [7, 8]}',
        '{"timestamp": 100, "input_length": 560, "output_length": 2, "hash_ids": [7, 9]}',
        '{"timestamp": 900000, "input_length": 560, "output_length": 2, "hash_ids": [1]}',
      ].join('\n'),
    });
    const replay = ['--scenario', 'trace', '--trace', folder.at('trace.jsonl'), '--slo', 'e2e=600s'];
    const { row } = await measure(...running, ...replay, '--requests', '2', '--time-scale', '0.5');
    expect(row('requests').value).toBe(2);
    expect(row('goodput').value).toBe(row('throughput').value);
    expect(row('prompt tokens').value / row('generated tokens').value).toBeCloseTo(1160 / 5, 0);
  });

  it('shows how the split follows a load that changes', async () => {
    const { row } = await measure(
      ...running,
      ...['--scenario', 'load-step', '--streams', '2', '--long-prompt', '200', '--seconds', '0.3'],
    );
    const name = 'phase 4, long prompts';
    expect(row(`${name}: prompts of 200 tokens`).value).toBeGreaterThan(0);
    expect(row(`${name}: TBT, p99`).baseline).toBe(row('phase 2, long prompts: TBT, p99').value);
    const looks = row(`${name}: looks that found units with prompts`);
    expect(looks.value).toBeLessThanOrEqual(looks.baseline!);
  });

  it('compares streams over sockets with and without others that are idle', async () => {
    const { row } = await measure(
      ...running,
      ...['--scenario', 'sockets', '--streams', '2', '--idle', '30', '--seconds', '0.5'],
    );
    const alone = row('TBT of 2 streams over sockets, p99');
    expect(row('TBT beside 30 idle sockets, p99').baseline).toBe(alone.value);
    expect(row('TBT without them again, p99').baseline).toBe(alone.value);
    const memory = row('resident memory beside 30 idle sockets, last third over the one before');
    expect(memory.ratio).toBeGreaterThan(0.5);
    await eventually(async () => (await server.metric('websockets')) === 0);
  });

  it('compares answers by schemas with free ones of the same lengths, and validates them', async () => {
    using folder = new Folder({
      'color.json': '{"enum": ["red", "green", "blue"]}',
      'suite/numbers.json': JSON.stringify([
        { description: 'small', schema: { type: 'integer', minimum: 0, maximum: 99 } },
        { description: 'cannot be enforced', schema: { not: { type: 'integer' } } },
      ]),
    });
    const structured = ['--scenario', 'structured', '--streams', '2', '--schemas'];
    const { row } = await measure(...running, ...structured, folder.path);
    expect(row('schemas that were followed').value).toBe(2);
    expect(row('schemas that were refused, for what cannot be enforced').value).toBe(1);
    expect(row('of these valid').ratio).toBe(1);
    for (const kind of [
      'after the start, first answers of other schemas',
      'first answer of each schema',
      'the same again',
    ]) {
      for (const name of [`decode step, ${kind}`, `TTFT, ${kind}, p50`]) {
        expect(row(name).baseline).toBeGreaterThan(0);
      }
      // Tokens of so short an answer may arrive together.
      for (const part of ['mean', 'p50']) expect(row(`TBT, ${kind}, ${part}`).baseline).not.toBeNull();
    }

    folder.write('broken.json', '{');
    const { code, stderr } = await benchHere(...running, ...structured, folder.path);
    expect([code, stderr]).toEqual([1, expect.stringContaining('broken.json is no JSON')]);
  });

  it('measures what a large body and a long text cost, the refusal for length included', async () => {
    const { row } = await measure(
      ...running,
      ...['--scenario', 'large-body', '--streams', '2', '--seconds', '0.3', '--repetitions', '1'],
      ...['--text-tokens', '12000', '--body-size', '0.5'],
    );
    expect(Math.abs(row('tokens of such a text').value / 12_000 - 1)).toBeLessThan(0.1);
    for (const name of [
      'tokenizing a text of 12k tokens',
      'answering a text of 12k tokens as a prompt',
      'answering a body of 0.5 MB',
    ]) {
      expect(row(`${name}, beside 2 streams, p50`).baseline).toBe(row(`${name}, alone, p50`).value);
      for (const part of ['p50', 'p99', 'max']) {
        expect(row(`TBT while ${name}, ${part}`).baseline).toBe(row(`TBT of 2 streams, ${part}`).value);
      }
    }
  });

  it('counts completions of one token a second', async () => {
    const { row } = await measure(
      ...running,
      ...['--scenario', 'requests', '--concurrency', '4', '--seconds', '0.5'],
    );
    const name = 'completions of 1 token, 4 connections';
    expect(row(name).value).toBeGreaterThan(0);
    expect(row(`${name}, p99`).baseline).toBe(row(`${name}, p50`).value);
  });

  it('starts a server with the flags behind --, and leaves none behind', async () => {
    const args = ['--requests', '2', '--concurrency', '1', '--output', '2'];
    const { code, stdout, stderr } = await bench('serve', ...args, '--', '--context-length', '64');
    expect(code).toBe(0);
    expect(stderr).toContain('context 64');
    expect(stdout).toMatch(/^failed requests +0 requests$/m);
    const [, url] = /at (http:\S+),/.exec(stderr)!;
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });
});

describe('tandem bench serve, when it cannot', () => {
  it('says why in its last line, and ends with 1', async () => {
    const nowhere = ['--url', 'http://127.0.0.1:9'];
    const cases: [string[], string][] = [
      [nowhere, 'GET http://127.0.0.1:9/v1/models: nothing listens there'],
      [['--url', 'localhost:8000'], 'Expected a URL as http://127.0.0.1:8000.'],
      [['--scenario', 'mixed', '--rate', '3'], '--rate is for --scenario load or trace, not for mixed'],
      [['--scenario', 'trace'], '--scenario trace needs a file: --trace FILE'],
      [['--slo', 'speed=1'], '"speed=1" is no objective'],
      [[...nowhere, '--', '--kv', 'int8'], 'with --url there is none'],
      [['--model', '/nowhere'], 'the server ended before it was ready'],
    ];
    for (const [args, message] of cases) {
      const { code, stdout, stderr } = await benchHere('serve', ...args);
      expect({ code, stdout }, args.join(' ')).toEqual({ code: 1, stdout: '' });
      expect(stderr.trimEnd().split('\n').at(-1)).toContain(message);
    }
  });

  it("refuses a wrong key with the server's words, and a prompt that is longer than the context", async () => {
    const server = await testServer({ server: { apiKey: ['secret'] } });
    const stranger = await benchHere('serve', '--url', server.url);
    expect(stranger).toMatchObject({ code: 1, stderr: expect.stringContaining('/v1/models: 401 ') });
    const args = ['--api-key', 'secret', '--scenario', 'mixed', '--long-prompt', '5000'];
    const long = await benchHere('serve', '--url', server.url, ...args);
    expect(long).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--long-prompt 5000: the context of demo leaves room for 2046 tokens'),
    });
    await server.close();
  });
});
