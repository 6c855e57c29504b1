import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { errorsOf, fitConstants } from '../../engine/calibration/fit.js';
import type { Sample } from '../../engine/calibration/sample.js';
import type { ModelSpec } from '../../engine/model/model-spec.js';
import { modelWork } from '../../engine/scheduler/model-work.js';
import { preset } from '../../engine/scheduler/presets.js';
import { root } from '../support/demo.js';

const folder = mkdtempSync(path.join(tmpdir(), 'tandem-gpu-check-'));
afterAll(() => rmSync(folder, { recursive: true }));

/**
 * The programs of the check with emulated kernels of a tiny model: all but the speed is as on a GPU. Each runs once, and may
 * take as long as it does.
 */
function run(name: string): ReturnType<typeof JSON.parse> {
  const file = path.join(folder, `${name}.json`);
  if (!existsSync(file)) execFileSync(path.join(root, `build/native/test/emulated-${name}`), [file, '3600']);
  return JSON.parse(readFileSync(file, 'utf8'));
}

const python = spawnSync('python3', ['--version']).status === 0;
const gpu = existsSync('/dev/nvidia0') || spawnSync('nvidia-smi', ['-L']).status === 0;
const emulated = process.arch === 'x64' ? describe : describe.skip;

emulated('the GPU check', () => {
  it('leaves samples that constants can be fitted to', () => {
    const nexus = run('nexus');
    const samples: readonly Sample[] = nexus.samples;
    const { units, smallestGroup, spec, weights } = nexus;
    const ways = new Set(samples.map((sample) => sample.units));
    expect([...ways].sort()).toEqual([2, 4, 6, 8]);
    expect(samples.some(({ other }) => other !== null)).toBe(true);
    for (const { units: own, other } of samples) expect(own + (other?.units ?? 0)).toBeLessThanOrEqual(units);

    const work = modelWork(spec as ModelSpec, weights);
    const start = { ...preset('h100'), units, smallestGroup };
    const fitted = fitConstants(work, start, samples);
    expect(errorsOf(work, fitted, samples).median).toBeLessThan(errorsOf(work, start, samples).median);
  });

  it('measures each kernel', () => {
    const { rows, skipped } = run('bench');
    expect(skipped).toEqual([]);
    for (const kernel of [
      'rmsNorm',
      'swiGlu',
      'argmax',
      'decodeAttention',
      'attendPartitions',
      'outlinePages',
      'matmul bf16',
      'matmul int8',
    ]) {
      expect(
        rows.some(({ name }: { name: string }) => name.startsWith(kernel)),
        kernel,
      ).toBe(true);
    }
  });

  it.skipIf(!python)('reports what passed and what failed', () => {
    run('bench');
    const report = path.join(root, 'test/native/gpu/report.py');
    const { status } = spawnSync('python3', [report, folder, folder, 'abc', 'build:0:3', 'bench:1:9']);
    expect(status).toBe(1);
    const text = readFileSync(path.join(folder, 'gpu-report.md'), 'utf8');
    expect(text).toContain('| build | passed | 3 |');
    expect(text).toContain('| bench | failed (1) | 9 |');
    expect(text).toContain('## Kernels');
  });

  it.skipIf(gpu)('says in one sentence that there is no GPU', () => {
    const script = path.join(root, 'native/gpu-check.sh');
    const { status, stderr } = spawnSync('bash', [script, '--only', 'bench'], { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(stderr).toBe('gpu-check: this machine has no NVIDIA GPU, and the check needs one.\n');
  });

  it.skipIf(!python)('lets the sanitizer look at the other tests when one fails', () => {
    const copy = path.join(folder, 'copy');
    for (const file of ['native/gpu-check.sh', 'test/native/gpu/report.py']) {
      cpSync(path.join(root, file), path.join(copy, file));
    }
    // A machine with a GPU, and programs that were made elsewhere.
    const program = (file: string, ...lines: string[]): void => {
      mkdirSync(path.dirname(path.join(copy, file)), { recursive: true });
      writeFileSync(path.join(copy, file), ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 });
    };
    program('tools/nvidia-smi', 'echo "GPU 0: pretended"');
    program('tools/compute-sanitizer', 'echo "sanitized: $*"');
    for (const name of ['bench', 'nexus']) program(`build/gpu/test/gpu-${name}`);
    program('build/gpu/test/gpu-tests', 'echo "1 passed, 1 failed"', 'exit 1');
    const { status, stdout } = spawnSync(
      'bash',
      [path.join(copy, 'native/gpu-check.sh'), '--only', 'ops', '--build', 'no', '--out', copy],
      {
        encoding: 'utf8',
        env: { ...process.env, PATH: `${path.join(copy, 'tools')}:${process.env['PATH']}` },
      },
    );
    expect(status).toBe(1);
    expect(stdout).toContain('/gpu-tests cuda\n');
    expect(stdout).toMatch(/sanitized: --error-exitcode 9/);
    expect(readFileSync(path.join(copy, 'gpu-report.md'), 'utf8')).toContain('1 passed, 1 failed');
  });
});
