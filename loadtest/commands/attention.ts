import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { packageRoot } from '../../config/package-root.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Rows } from '../rows.js';
import { fileToWrite, wholeNumber } from './arguments.js';
import { type Isa, isaOption } from './bench-choices.js';
import { print } from './output.js';

/** What the program prints of one measurement, a line each. */
const Measured = z.strictObject({
  name: z.string(),
  value: z.number(),
  unit: z.string(),
  baseline: z.number().nullable(),
});

interface AttentionOptions {
  cores?: number;
  isa?: Isa;
  json?: string;
}

export function attentionCommand(argv: readonly string[]): Command {
  return new Command('attention')
    .description("measure the processor's attention alone, on pages of every class")
    .option('--cores <n>', 'cores to compute on; all if absent', wholeNumber(1))
    .addOption(isaOption())
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action((options: AttentionOptions) => runAttention(argv, options));
}

function runAttention(argv: readonly string[], { cores, isa, json }: AttentionOptions): void {
  const program = path.join(packageRoot, 'build/native/test/bench-attention');
  if (!existsSync(program)) {
    throw new Error(`${path.relative(packageRoot, program)} is not built; "npm test" builds it`);
  }
  const rows = new Rows(originOf(['attention', ...argv]));
  // 0: all of them
  const args = [String(cores ?? 0), ...(isa === undefined ? [] : [isa])];
  const lines = execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  for (const line of lines.trim().split('\n')) {
    const { name, value, unit, baseline } = Measured.parse(JSON.parse(line));
    rows.add(name, value, unit, baseline);
  }
  print(formatRows(rows.all));
  if (json) rows.write(json);
}
