import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseRows } from '../../loadtest/rows.js';
import { root } from '../support/demo.js';
import { oneCore } from '../support/one-core.js';

const folder = mkdtempSync(path.join(tmpdir(), 'tandem-gpu-serve-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('logits against golden ones', () => {
  it('are those in both lanes, with the image that a prompt shows too', async () => {
    const file = path.join(folder, 'logits.json');
    const program = path.join(root, 'test/native/gpu/compare-logits.mjs');
    const { status, stdout, stderr } = await run(process.execPath, program, root, 'cpu', file);
    expect(status, stdout + stderr).toBe(0);
    const models = JSON.parse(readFileSync(file, 'utf8'));
    expect(models.find(({ model }: { model: string }) => model === 'idefics3')).toMatchObject({
      passed: true,
      rows: 48,
      sameBitsInBothLanes: 48,
    });
  });
});

const tools = ['xz', 'tar'].every((tool) => spawnSync(tool, ['--version']).status === 0);

describe('the check of the server on a GPU', () => {
  const serve = (...args: string[]) => run('bash', path.join(root, 'native/gpu-serve.sh'), ...args);

  it.skipIf(!tools)(
    'is tried under each way to keep the KV, in a long session and short of memory',
    async () => {
      const out = path.join(folder, 'out');
      const { status, stdout } = await serve(
        ...['--packed', packLinks(path.join(folder, 'packed')), '--out', out],
        ...['--device', 'cpu', '--shape', 'demo', '--only', 'kv', '--seconds', '3600'],
      );
      expect(status, stdout).toBe(0);
      const { parts } = JSON.parse(readFileSync(path.join(out, 'gpu-serve.json'), 'utf8'));
      expect(parts.map(({ part, status }: { part: string; status: number }) => [part, status])).toEqual([
        ['serve --kv int8', 0],
        ['serve --kv zip', 0],
        ['serve --kv pack', 0],
        ['sessions', 0],
        ['short of memory', 0],
      ]);
      const rowsOf = (name: string) => parseRows(name, readFileSync(path.join(out, name), 'utf8'));
      expect(rowsOf('gpu-sessions.json')[0]!.command).toContain('sessions --device cpu');
      const names = rowsOf('gpu-concurrency.json').map(({ name }) => name.split(':')[0]);
      expect(new Set(names)).toEqual(new Set(['exact', 'exact-pack', 'zip']));
    },
  );

  it('says in one sentence what it cannot begin with', async () => {
    const unknown = await serve('--only', 'images');
    expect([unknown.status, unknown.stderr]).toEqual([2, 'gpu-serve: there is no part images\n']);
    const missing = await serve('--packed', path.join(folder, 'nothing'), '--only', 'kv');
    expect(missing.status).toBe(2);
    expect(missing.stderr).toMatch(/^gpu-serve: .*nothing\/node\.xz is missing: make it with/);
  });
});

async function run(program: string, ...args: string[]) {
  const child = spawn(program, args, { env: { TANDEM_CORES: String(oneCore.cores), ...process.env } });
  const printed = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      printed[name] += text;
    });
  }
  const [status] = await once(child, 'close');
  return { status, ...printed };
}

/** As `scripts/pack.mjs` packs them, but that most of it are links to this folder and to the Node that runs here. */
function packLinks(packed: string): string {
  const server = path.join(packed, 'server');
  mkdirSync(server, { recursive: true });
  cpSync(path.join(root, 'scripts'), path.join(server, 'scripts'), { recursive: true });
  for (const name of ['package.json', 'dist', 'build', 'node_modules', 'server']) {
    symlinkSync(path.join(root, name), path.join(server, name));
  }
  writeFileSync(path.join(server, 'PACKED'), 'links');
  execFileSync('tar', ['-C', server, '-cJf', path.join(packed, 'server.tar.xz'), '.']);
  const node = path.join(packed, 'node');
  writeFileSync(node, `#!/bin/sh\nexec '${process.execPath}' "$@"\n`);
  execFileSync('xz', [node]);
  return packed;
}
