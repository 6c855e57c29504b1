import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { run } from '../../../loadtest/commands/simulate.js';
import { parseRows } from '../../../loadtest/rows.js';

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
  const code = await run([...args, '--json', json, '--html', html]);
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
    expect(rows[0]!.command).toContain('tandem simulate --policy nexus,chunked');
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
