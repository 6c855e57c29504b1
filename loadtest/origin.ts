import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { packageRoot } from '../config/package-root.js';
import { processorName } from '../config/processor-name.js';
import { cudaInfo } from '../engine/index.js';
import type { Origin } from './rows.js';

/** `argv`: what stands after `program`. */
export function originOf(argv: readonly string[], program = 'tandem bench'): Origin {
  return {
    command: [program, ...argv.map(relativePath).map(quoted)].join(' '),
    commit: commit(),
    machine: machine(),
    date: new Date().toISOString(),
  };
}

/** A path below the package's folder reads the same on every machine. */
function relativePath(argument: string): string {
  return argument.split(`${packageRoot}${path.sep}`).join('');
}

function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", String.raw`'\''`)}'`;
}

function commit(): string {
  return packedCommit() ?? commitOfRepository();
}

function commitOfRepository(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { cwd: packageRoot, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const changes = git('status', '--porcelain', '--untracked-files=no').trim();
    return git('rev-parse', '--short=12', 'HEAD').trim() + (changes === '' ? '' : '+');
  } catch {
    return 'unknown';
  }
}

/** Of a copy without a repository (scripts/pack.mjs). */
function packedCommit(): string | undefined {
  try {
    return readFileSync(path.join(packageRoot, 'PACKED'), 'utf8').trim();
  } catch {
    return undefined;
  }
}

function machine(): string {
  const gigabytes = Math.round(os.totalmem() / 2 ** 30);
  return [
    processorName(),
    `${os.availableParallelism()} cores`,
    `${gigabytes} GiB`,
    instructionSets(),
    ...gpus(),
  ]
    .filter((part) => part !== '')
    .join(', ');
}

/** GPUs that Tandem can compute on. */
function gpus(): string[] {
  try {
    return cudaInfo().devices.map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Of the instruction sets that matter here, those that the processor names. */
function instructionSets(): string {
  let flags: Set<string>;
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    flags = new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(info)?.[1]?.trim().split(' '));
  } catch {
    return '';
  }
  const names: Record<string, string> = {
    avx2: 'AVX2',
    avx512f: 'AVX-512',
    avx512_vnni: 'VNNI',
    avx512_bf16: 'BF16',
    amx_tile: 'AMX',
  };
  return Object.entries(names)
    .filter(([flag]) => flags.has(flag))
    .map(([, name]) => name)
    .join(' ');
}
