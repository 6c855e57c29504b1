import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConstants } from '../../../engine/scheduler/device-constants.js';
import { parseRows } from '../../../loadtest/rows.js';
import { demoFolder } from '../../support/demo.js';

const script = `
  const { run } = await import(${JSON.stringify(
    new URL('../../../dist/loadtest/commands/calibrate.js', import.meta.url).href,
  )});
  process.exitCode = await run(process.argv.slice(1));`;

async function calibrate(args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, '--', ...args], {
    cwd: fileURLToPath(new URL('../../../', import.meta.url)),
    env: { ...process.env, ...env },
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, stdout, stderr };
}

describe('tandem calibrate', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'tandem-calibrate-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('measures the demo model, prints and keeps constants, and writes rows and steps', async () => {
    const json = path.join(folder, 'rows.json');
    const record = path.join(folder, 'steps.json');
    const args = [demoFolder, '--quick', '--seconds', '60', '--json', json, '--record', record];
    const { code, stdout, stderr } = await calibrate(args, { XDG_CACHE_HOME: folder });
    expect(stderr).toContain('opening');
    expect(code).toBe(0);
    expect(stdout).toMatch(/GFLOP\/s +saturates at/);

    const [file] = readdirSync(path.join(folder, 'tandem'));
    expect(file).toMatch(/^constants-[0-9a-f]{16}\.json$/);
    const kept = path.join(folder, 'tandem', file!);
    expect(stdout).toContain(kept);
    const constants = parseConstants(JSON.parse(readFileSync(kept, 'utf8')), kept);
    expect(constants.memory.bytesPerSecond).toBeGreaterThan(1e8);

    const rows = parseRows(json, readFileSync(json, 'utf8'));
    expect(rows.map(({ name }) => name)).toEqual([
      'steps measured',
      'held-out error, median',
      'held-out error, p95',
    ]);
    expect(rows[0]!.command).toMatch(/^tandem calibrate /);
    const { samples } = JSON.parse(readFileSync(record, 'utf8'));
    expect(samples).toHaveLength(rows[0]!.value);
    for (const { seconds } of samples) expect(seconds).toBeGreaterThan(0);
  });

  it.each([
    [['/nowhere'], 'there is no such folder'],
    [['--weights', 'int3'], 'int3'],
    [[demoFolder, '--model', demoFolder], 'named twice'],
  ])('explains in a line what is wrong with %j', async (args, message) => {
    const { code, stdout, stderr } = await calibrate(args);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('    at ');
  });
});
