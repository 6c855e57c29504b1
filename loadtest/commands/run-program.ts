import { type Command, CommanderError } from 'commander';
import { notice } from './output.js';

/** Runs a command that consists of subcommands; `argv` is what follows its name. Returns the exit code. */
export async function runProgram(program: Command, argv: readonly string[]): Promise<number> {
  for (const command of [program, ...program.commands]) {
    command.exitOverride().showSuggestionAfterError();
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has printed its own message already.
    if (error instanceof CommanderError) return error.exitCode;
    notice(`${program.name()}: ${(error as Error).message}`);
    return 1;
  }
}
