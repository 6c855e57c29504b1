import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { TandemProcess } from './tandem-process.js';

const running: TandemProcess[] = [];

function serve(...args: string[]): TandemProcess {
  const started = new TandemProcess(['serve', ...args]);
  running.push(started);
  return started;
}

async function ready(server: TandemProcess): Promise<string> {
  const [, url] = await server.until(
    'stdout',
    /^Tandem serves demo on (http:\/\/\S+) .*KV cache of \d+ tokens.*\n/,
  );
  return url!;
}

/** Resolves when the answer has begun; it is long, and ends by its length. */
async function startStream(url: string, size: { n: number; max_tokens: number }): Promise<Response> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'Hello', ignore_eos: true, stream: true, ...size }),
  });
  expect(response.status).toBe(200);
  return response;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.kill()));
});

describe('tandem serve', () => {
  it('says where it is ready, serves, and ends with 0 at SIGTERM', async () => {
    const server = serve('--port', '0');
    const url = await ready(server);
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    server.child.kill('SIGTERM');
    expect(await server.exit).toBe(0);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  it('ends with 0 too when npm started it, which gives the signal to its shell alone', async () => {
    const { start } = JSON.parse(
      readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
    ).scripts;
    const server = new TandemProcess(['serve', '--port', '0'], {
      shell: start.replace('node scripts/start.mjs', '"$@"'),
    });
    running.push(server);
    await ready(server);
    server.child.kill('SIGTERM');
    expect(await once(server.child, 'exit')).toEqual([0, null]);
  });

  it('lets running streams finish after the first signal', async () => {
    const server = serve('--port', '0', '--grace-period-ms', '120000');
    const response = await startStream(await ready(server), { n: 1, max_tokens: 500 });
    server.child.kill('SIGINT');
    expect((await response.text()).trimEnd()).toMatch(/"finish_reason":"length"[^\n]*\n\ndata: \[DONE\]$/);
    expect(await server.exit).toBe(0);
  });

  it('ends at once at a second signal', async () => {
    const server = serve('--port', '0');
    const response = await startStream(await ready(server), { n: 16, max_tokens: 2000 });
    server.child.kill('SIGTERM');
    await server.until('stderr', /draining/);
    server.child.kill('SIGTERM');
    expect(await server.exit).toBe('SIGTERM');
    await expect(response.text()).rejects.toThrow();
  });

  it('names a wrong flag, a wrong value and a folder that is no model, each in a line', async () => {
    const wrongFlag = serve('--prot', '1');
    const wrongValue = serve('--kv', 'int9');
    const noModel = serve('--port', '0', '/nowhere');
    expect(await wrongFlag.exit).toBe(1);
    expect(wrongFlag.stderr).toMatch(/unknown option '--prot'\s+\(Did you mean --port\?\)/);
    expect(await wrongValue.exit).toBe(1);
    expect(wrongValue.stderr).toBe(
      'tandem: --kv: "int9" is not one of exact, int8, int4, int2, zip, pack; did you mean int8?\n',
    );
    expect(await noModel.exit).toBe(1);
    expect(noModel.stderr).toBe('tandem: /nowhere: there is no such folder\n');
  });

  it('says that a port is in use, and by what flag to choose another', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    const server = serve('--port', String(port));
    expect(await server.exit).toBe(1);
    expect(server.stderr).toContain(`port ${port} on 127.0.0.1 is in use; choose another with --port`);
    other.close();
  });

  it('says that an address is none of this machine', async () => {
    for (const host of ['999.1.1.1', '127.0.0.1:80']) {
      const server = serve('--port', '0', '--host', host);
      expect(await server.exit).toBe(1);
      expect(server.stderr).toMatch(
        /^tandem: cannot listen on .*:0 \(\w+\); choose another --host or --port\n$/,
      );
    }
  });

  it('says that a folder is no file of keys', async () => {
    const server = serve('--port', '0', '--api-key-file', '/');
    expect(await server.exit).toBe(1);
    expect(server.stderr).toBe('tandem: --api-key-file / cannot be read (EISDIR)\n');
  });

  it('says that the file for responses cannot be used', async () => {
    const server = serve('--port', '0', '--store-file', '/dev/null/responses.db');
    expect(await server.exit).toBe(1);
    expect(server.stderr).toMatch(/^tandem: --store-file \/dev\/null\/responses\.db cannot be used: .*\n$/);
  });

  it('prints the configuration with its sources and starts nothing', async () => {
    const server = new TandemProcess(['serve', '--port', '1234', '--print-config'], {
      env: { TANDEM_KV: 'int8' },
    });
    expect(await server.exit).toBe(0);
    expect(server.stdout).toMatch(/^server\.port +1234 +flag$/m);
    expect(server.stdout).toMatch(/^engine\.kv +int8 +environment$/m);
    expect(server.stdout).not.toContain('Tandem serves');
  });
});
