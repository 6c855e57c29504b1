import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from '../support/demo.js';

/** The C++ tests are one program, which `npm test` builds; each of its lines is a test of its own there. */
describe('native tests', () => {
  it('all pass', () => {
    const program = path.join(root, 'build/native/test/tandem-tests');
    const output = execFileSync(program, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    const failed = output.split('\n').filter((line) => line.startsWith('FAIL'));
    expect(failed).toEqual([]);
    expect(output).toMatch(/^\d{2,} passed, 0 failed$/m);
  }, 600_000);
});
