import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { root } from '../support/demo.js';

/** Runs every Nth test from the Ith on. A test takes one core. */
async function runShare(share: string) {
  const program = path.join(root, 'build/native/test/tandem-tests');
  const child = spawn(program, ['--share', share], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve, reject) => {
    child.on('error', (error) =>
      reject(new Error('The native tests did not start; npm test builds them.', { cause: error })),
    );
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  const [stdout, stderr, end] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  const lines = stdout.split('\n');
  return { failed: lines.filter((line) => line.startsWith('FAIL')), stderr, end, stdout };
}

/** The C++ tests are one program, which `npm test` builds; each of its lines is a test of its own there. */
describe('native tests', () => {
  it('all pass', async () => {
    const shares = Math.min(availableParallelism(), 4);
    const runs = Array.from({ length: shares }, (_, index) => runShare(`${index + 1}/${shares}`));
    for (const { stdout, ...rest } of await Promise.all(runs)) {
      expect(rest).toEqual({ failed: [], stderr: '', end: 0 });
      expect(stdout).toMatch(/^\d{2,} passed, 0 failed$/m);
    }
  }, 1_800_000);
});
