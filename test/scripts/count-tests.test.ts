import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Folder, root } from './support.js';

function count(report: object | undefined) {
  using folder = new Folder(report ? { 'tests.json': JSON.stringify(report) } : {});
  const script = path.join(root, 'scripts/count-tests.mjs');
  const { stdout, status } = spawnSync(process.execPath, [script, folder.at('tests.json')], {
    encoding: 'utf8',
  });
  return { stdout, status };
}

const passed = { status: 'passed', assertionResults: [{}] };

describe('count-tests', () => {
  it('prints the totals alone on a line', () => {
    const report = { numPassedTests: 12, numFailedTests: 0, testResults: [passed] };
    expect(count(report)).toEqual({ stdout: '12 passed, 0 failed\n', status: 0 });
  });

  it('fails when a test failed', () => {
    const report = { numPassedTests: 12, numFailedTests: 2, testResults: [passed] };
    expect(count(report)).toEqual({ stdout: '12 passed, 2 failed\n', status: 1 });
  });

  it('counts and names a file that broke before its first test', () => {
    const broken = { name: 'a.test.ts', status: 'failed', message: 'no such module', assertionResults: [] };
    const report = { numPassedTests: 3, numFailedTests: 0, testResults: [passed, broken] };
    expect(count(report)).toEqual({
      stdout: 'FAILED: a.test.ts\n    no such module\n3 passed, 1 failed\n',
      status: 1,
    });
  });

  it('names what failed, with the beginning of its message', () => {
    const message = Array.from({ length: 40 }, (_, line) => `line ${line}`).join('\n');
    const failed = { status: 'failed', fullName: 'pages return', failureMessages: [message] };
    const file = {
      name: 'pages.test.ts',
      status: 'failed',
      assertionResults: [{ status: 'passed' }, failed],
    };
    const { stdout } = count({ numPassedTests: 1, numFailedTests: 1, testResults: [passed, file] });
    expect(stdout).toMatch(/^FAILED: pages\.test\.ts: pages return\n {4}line 0\n {4}line 1\n/);
    expect(stdout).not.toContain('line 12');
    expect(stdout).toMatch(/line 11\n1 passed, 1 failed\n$/);
  });

  it('fails when nothing ran', () => {
    expect(count(undefined)).toEqual({ stdout: '0 passed, 1 failed\n', status: 1 });
    const empty = { numPassedTests: 0, numFailedTests: 0, testResults: [] };
    expect(count(empty)).toEqual({ stdout: '0 passed, 0 failed\n', status: 1 });
  });
});
