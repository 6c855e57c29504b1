import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../../../loadtest/commands/simulate.js';
import { parseRows } from '../../../loadtest/rows.js';
import { serveSettings } from '../../../loadtest/serve/serve-settings.js';
import { pretendCalibrated } from '../../support/calibrated.js';
import { demoFolder } from '../../support/demo.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-simulate-'));
const errors: string[] = [];
beforeAll(() => {
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => errors.push(String(text)) > 0);
});
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

async function simulated(...args: string[]) {
  const json = path.join(folder, 'rows.json');
  const html = path.join(folder, 'report.html');
  const code = await run(['--json', json, '--html', html, ...args]);
  return { code, rows: parseRows(json, readFileSync(json, 'utf8')), html: readFileSync(html, 'utf8') };
}

/** Every tag that is opened is closed, in order. */
function expectWellFormed(html: string): void {
  const open: string[] = [];
  const lone = new Set(['meta', 'line', 'rect', 'br']);
  for (const [, closes, name, rest] of html
    .replace(/<!doctype html>/, '')
    .matchAll(/<(\/?)([a-z0-9]+)([^>]*)>/g)) {
    if (closes) expect(open.pop()).toBe(name);
    else if (!lone.has(name!) && !rest!.endsWith('/')) open.push(name!);
  }
  expect(open).toEqual([]);
}

describe('tandem simulate', () => {
  it('writes rows, and a report that needs no other file', async () => {
    const { code, rows, html } = await simulated(
      ...['--policy', 'nexus,chunked', '--prefill-order', 'spf,fcfs', '--rate', '0.5,1', '--requests', '20'],
    );
    expect(code).toBe(0);
    const names = rows.map(({ name }) => name);
    for (const label of ['nexus spf', 'nexus fcfs', 'chunked spf', 'chunked fcfs']) {
      expect(names).toContain(`${label} at 0.5/s, TTFT p95`);
      expect(names).toContain(`${label} at 1/s, goodput`);
    }
    expect(rows[0]!.command).toMatch(/^tandem simulate .*--policy nexus,chunked/);
    expectWellFormed(html);
    expect(html).not.toMatch(/https?:\/\/|src=|@import|url\(/);
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
    expect(html).toContain('prefers-color-scheme:dark');
  });

  it('replays a trace at its own rate', async () => {
    const trace = path.join(folder, 'trace.csv');
    const lines = ['00.0,300,5', '01.0,900,20', '02.5,80,3'].map((line) => `2024-01-01 10:00:${line}`);
    writeFileSync(trace, ['TIMESTAMP,ContextTokens,GeneratedTokens', ...lines].join('\n'));
    const { code, rows } = await simulated('--trace', trace, '--policy', 'disaggregated', '--gpu', 'h200');
    expect(code).toBe(0);
    expect(rows.find(({ name }) => name.endsWith('throughput'))!.name).toBe(
      'disaggregated spf at 0.8/s, throughput',
    );
  });

  it('plans how many devices a rate needs', async () => {
    const { code, rows } = await simulated(
      ...[
        '--plan',
        '--policy',
        'chunked',
        '--workload',
        'sharegpt',
        '--rate',
        '40',
        '--requests',
        '40',
        '--attain',
        '0.9',
      ],
    );
    expect(code).toBe(0);
    const value = (name: string) => rows.find((row) => row.name === `chunked spf, KV bf16, ${name}`)!.value;
    const carried = value('rate that one device carries');
    expect(value('devices for 40/s')).toBe(Math.ceil(40 / carried));
  });

  it('runs an experiment', async () => {
    const { code, rows, html } = await simulated('--experiment', 'load-step', '--requests', '30');
    expect(code).toBe(0);
    expect(rows.some(({ name }) => name === 'nexus spf, changes of the split')).toBe(true);
    expectWellFormed(html);
  });

  it('says what is wrong with what it was given', async () => {
    expect(await run(['--workload', 'sharegpt'])).toBe(1);
    expect(errors.at(-1)).toContain('say --rate');
    expect(await run(['--rate', '1', '--model', 'qwen2.5-14b', '--gpu', 'rtx4090'])).toBe(1);
    expect(errors.at(-1)).toContain('does not fit');
    expect(await run(['--rate', '1', '--slo', 'fast=1'])).toBe(1);
    expect(errors.join('')).toContain('is no objective');
  });
});

describe('tandem simulate --machine', () => {
  const trace = path.join(folder, 'machine.csv');
  const machine = ['--machine', demoFolder, '--trace', trace];
  beforeAll(() => {
    const lines = ['00.0,300,5', '01.0,900,20', '02.5,80,3'].map((line) => `2024-01-01 10:00:${line}`);
    writeFileSync(trace, ['TIMESTAMP,ContextTokens,GeneratedTokens', ...lines].join('\n'));
  });
  beforeEach(() => vi.stubEnv('XDG_CACHE_HOME', folder));
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(path.join(folder, 'tandem'), { recursive: true, force: true });
  });
  const calibrated = (...flags: string[]) => pretendCalibrated(serveSettings(demoFolder, flags).settings);

  it('runs the schedulers of a server of this computer, with the flags of its server', async () => {
    await calibrated();
    const flags = ['--', '--decode-slack', '2', '--kv', 'int8', '--kv-memory', '8MiB'];
    const { code, rows, html } = await simulated(...machine, '--policy', 'nexus,chunked', ...flags);
    expect(code).toBe(0);
    const value = (name: string) => rows.find((row) => row.name === name)!.value;
    expect(value('nexus spf at 0.8/s, refused')).toBe(0);
    expect(value('chunked spf at 0.8/s, TTFT p50')).toBeGreaterThan(0);
    expect(rows[0]!.command).toContain('--machine');
    expect(html).toContain('demo, int8 weights on ');
    expectWellFormed(html);
  });

  it('is the same each time, without noise', async () => {
    await calibrated();
    const figures = async (seed: string) =>
      (await simulated(...machine, '--seed', seed)).rows.map(({ name, value }) => [name, value]);
    expect(await figures('1')).toEqual(await figures('2'));
  });

  it('plans what it carries', async () => {
    await calibrated();
    const plan = ['--plan', '--policy', 'nexus', '--requests', '3', '--attain', '0.5', '--rate', '1'];
    const { code, rows } = await simulated(...machine, ...plan);
    expect(code).toBe(0);
    expect(rows.map(({ name }) => name)).toContain('nexus spf, KV bf16, rate that one device carries');
  });

  it('asks for a calibration where there is none', async () => {
    expect(await run(machine)).toBe(1);
    expect(errors.at(-1)).toContain(`run "tandem calibrate ${demoFolder}" first`);
    await calibrated();
    expect(await run([...machine, '--', '--weights', 'int4'])).toBe(1);
    expect(errors.at(-1)).toContain(`run "tandem calibrate ${demoFolder} --weights int4" first`);
  });

  it('refuses what would do nothing', async () => {
    await calibrated();
    const cases: [string[], string][] = [
      [['--gpu', 'h100'], "'--gpu <name>'"],
      [['--model', 'qwen2.5-3b'], "'--model <name>'"],
      [['--slots', '4'], '--slots does nothing with --machine: give --max-sequences behind "--"'],
      [['--chunk-budget', '64'], 'give --max-step-tokens behind "--"'],
      [['--policy', 'disaggregated'], 'disaggregated takes two devices'],
      [['--', '--scheduler', 'nexus'], 'the schedulers are those of --policy'],
      [['--', '--port', '80'], 'server.port is set behind "--" in vain'],
      [['--', '--fast'], "unknown option '--fast'"],
    ];
    for (const [args, message] of cases) {
      expect(await run([...machine, ...args]), args.join(' ')).toBe(1);
      expect(errors.join('')).toContain(message);
    }
    expect(await run(['--rate', '1', '--', '--kv', 'int8'])).toBe(1);
    expect(errors.at(-1)).toContain('"--kv int8" does nothing without --machine');
  });
});
