import { readFileSync } from 'node:fs';
import { parseRows, type Row } from '../../loadtest/rows.js';
import { Folder } from '../scripts/support.js';
import { TandemProcess } from '../server/commands/tandem-process.js';
import { benchHere } from './run-here.js';

export interface Bench {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** `tandem bench …` in a process of its own. */
export async function bench(...args: string[]): Promise<Bench> {
  const run = new TandemProcess(['bench', ...args]);
  const code = await run.exit;
  return { code, stdout: run.stdout, stderr: run.stderr };
}

export interface Measured {
  readonly names: string[];
  row(name: string): Row;
}

/**
 * Runs it here with `--json`, and gives the rows that it wrote. Throws an Error with its output if it failed. What only a
 * process of its own shows is tested with `bench`.
 */
export async function measure(...args: string[]): Promise<Measured> {
  using folder = new Folder();
  const file = folder.at('rows.json');
  const [command, ...rest] = args;
  const { code, stderr, stdout } = await benchHere(command!, '--json', file, ...rest);
  if (code !== 0) throw new Error(`tandem bench ${args.join(' ')} ended with ${code}:\n${stderr}`);
  const rows = parseRows(file, readFileSync(file, 'utf8'));
  const lines = stdout.split('\n');
  for (const { name } of rows) {
    if (!lines.some((line) => line.startsWith(`${name} `))) throw new Error(`${name} is not in:\n${stdout}`);
  }
  return {
    names: rows.map(({ name }) => name),
    row: (name) => {
      const row = rows.find((other) => other.name === name);
      if (!row) throw new Error(`no row "${name}" in: ${rows.map((other) => other.name).join('; ')}`);
      return row;
    },
  };
}
