import { Command } from 'commander';
import { convertKvHeadsCommand } from './convert-kv-heads.js';
import { runProgram } from './run-program.js';

/** `tandem convert ...`; `argv` is what follows. Returns the exit code. */
export function run(argv: string[]): Promise<number> {
  const program = new Command('tandem convert')
    .description('Rewrites a model folder into one that takes less memory while it serves.')
    .helpCommand(false)
    .addCommand(convertKvHeadsCommand(argv));
  return runProgram(program, argv);
}
