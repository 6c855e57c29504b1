import { Command, CommanderError } from 'commander';
import { convertKvHeadsCommand } from './convert-kv-heads.js';
import { notice } from './output.js';

/** `tandem convert ...`; `argv` is what follows. Returns the exit code. */
export async function run(argv: string[]): Promise<number> {
  const program = new Command('tandem convert')
    .description('Rewrites a model folder into one that takes less memory while it serves.')
    .helpCommand(false)
    .addCommand(convertKvHeadsCommand(argv));
  for (const command of [program, ...program.commands]) {
    command.exitOverride().showSuggestionAfterError();
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has printed its own message already.
    if (error instanceof CommanderError) return error.exitCode;
    notice(`tandem convert: ${(error as Error).message}`);
    return 1;
  }
}
