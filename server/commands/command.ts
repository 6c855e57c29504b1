import { Command, CommanderError } from 'commander';
import { addSettingFlags, givenFlags } from '../../config/flags.js';
import { loadConfig } from '../../config/load.js';
import { ConfigError, type ResolvedConfig } from '../../config/resolve.js';
import { EngineError } from '../../engine/errors.js';

/** A mistake of the person at the terminal, or of the machine, that one line explains. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** A command that takes `[MODEL]` and the flags of these sections of the settings. */
export function modelCommand(name: string, description: string, sections: readonly string[]): Command {
  const command = new Command(`tandem ${name}`)
    .description(description)
    .argument('[MODEL]', 'model folder in Hugging Face layout (default: the built-in demo model)')
    .showHelpAfterError('(--help lists all options)');
  addSettingFlags(command, sections);
  return command;
}

/** The settings a parsed command asks for, with `[MODEL]` as `--model`. Throws `ConfigError`. */
export function configOf(command: Command): ResolvedConfig {
  const flags = givenFlags(command);
  const model = command.args[0];
  if (model !== undefined) {
    if (flags['model.path'] !== undefined) {
      throw new ConfigError(['the model is named twice: give it as MODEL or as --model']);
    }
    flags['model.path'] = model;
  }
  return loadConfig({ flags, configFile: command.opts<{ config?: string }>().config });
}

/**
 * Parses the arguments and runs `action`. What a person can mend (a wrong flag, a bad model folder, a port in use) is
 * printed as one line without a stack trace; anything else is a bug and is thrown.
 * @returns the exit code
 */
export async function runCommand(
  command: Command,
  argv: readonly string[],
  action: (command: Command) => Promise<number>,
): Promise<number> {
  try {
    command.exitOverride().parse(argv, { from: 'user' });
    return await action(command);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof ConfigError || error instanceof CommandError || error instanceof EngineError) {
      for (const line of error.message.split('\n')) process.stderr.write(`tandem: ${line}\n`);
      return 1;
    }
    throw error;
  }
}
