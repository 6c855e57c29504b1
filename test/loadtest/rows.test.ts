import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { originOf } from '../../loadtest/origin.js';
import { formatRows } from '../../loadtest/print-rows.js';
import { parseRows, Rows } from '../../loadtest/rows.js';
import { Folder, root } from '../scripts/support.js';
import { origin } from './origin.js';

describe('rows', () => {
  it('hold a figure, what it is compared with, and what is needed to measure it again', () => {
    const rows = new Rows(origin);
    rows.add('TTFT p50', 12.34567, 'ms');
    rows.add('TBT p50', 30, 'ms', 12);
    expect(rows.all).toEqual([
      { name: 'TTFT p50', value: 12.35, unit: 'ms', baseline: null, ratio: null, ...origin },
      { name: 'TBT p50', value: 30, unit: 'ms', baseline: 12, ratio: 2.5, ...origin },
    ]);
  });

  it('have no ratio to a baseline of 0', () => {
    expect(new Rows(origin).add('x', 1, 'ms', 0)).toMatchObject({ baseline: 0, ratio: null });
  });

  it('refuse what was not measured, by name', () => {
    const rows = new Rows(origin);
    expect(() => rows.add('TBT p50', Number.NaN, 'ms')).toThrow('"TBT p50" was not measured: NaN');
    expect(() => rows.add('TBT p50', 1, 'ms', Number.NaN)).toThrow('the baseline of "TBT p50"');
    expect(rows.all).toEqual([]);
  });

  it('are written as a JSON array into a folder that need not be there, and read again', () => {
    using folder = new Folder();
    const file = folder.at('new/rows.json');
    const rows = new Rows(origin);
    rows.add('TBT p50', 30, 'ms', 12);
    rows.write(file);
    const text = readFileSync(file, 'utf8');
    expect(Object.keys((JSON.parse(text) as object[])[0]!)).toEqual([
      'name',
      'value',
      'unit',
      'baseline',
      'ratio',
      'command',
      'commit',
      'machine',
      'date',
    ]);
    expect(parseRows(file, text)).toEqual(rows.all);
  });

  it('name the file and the field that is wrong', () => {
    expect(() => parseRows('a.json', '{')).toThrow(/^a\.json is no JSON: /);
    expect(() => parseRows('a.json', '[{"name":7}]')).toThrow(/^a\.json: 0\.name: /);
    expect(() => parseRows('a.json', '{}')).toThrow(/^a\.json: /);
  });

  it('stand in a table with a baseline only where one is compared', () => {
    const rows = new Rows(origin);
    rows.add('throughput', 1234.5, 'requests/s');
    expect(formatRows(rows.all)).toBe('                       value\nthroughput  1,235 requests/s\n');
    rows.add('TBT p50', 30, 'ms', 12);
    expect(formatRows(rows.all).split('\n')[2]).toMatch(/^TBT p50 +30 ms +12 +2\.5x$/);
  });
});

describe('the origin of rows', () => {
  it('is a command that can be pasted, with paths as they are on every machine', () => {
    const { command, commit, machine, date } = originOf([
      'serve',
      '--slo',
      'a b',
      `${root}docs/results/x.json`,
    ]);
    expect(command).toBe("tandem bench serve --slo 'a b' docs/results/x.json");
    expect(commit).toMatch(/^[\da-f]{12}\+?$|^unknown$/);
    expect(machine).toMatch(/\d+ cores, \d+ GiB/);
    expect(new Date(date).toISOString()).toBe(date);
  });
});
