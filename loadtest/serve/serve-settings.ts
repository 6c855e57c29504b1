import { Command, CommanderError } from 'commander';
import { addSettingFlags, givenFlags } from '../../config/flags.js';
import { loadConfig } from '../../config/load.js';
import { ConfigError } from '../../config/resolve.js';
import type { Settings } from '../../config/schema.js';

export interface ServeFlags {
  readonly settings: Settings;
  /** Keys of the settings that the flags name, as `engine.scheduler`. */
  readonly given: ReadonlySet<string>;
}

/**
 * The settings that `tandem serve MODEL` would have with these flags here and now; what they leave open comes from the
 * environment and the config file, as there. Throws an Error that says what is wrong with them.
 */
export function serveSettings(model: string | undefined, flags: readonly string[]): ServeFlags {
  const command = new Command('tandem serve').exitOverride().configureOutput({ writeErr: () => {} });
  addSettingFlags(command, ['model', 'engine', 'server', 'log']);
  try {
    command.parse([...flags], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) throw new Error(`flags of "tandem serve": ${error.message}`);
    throw error;
  }
  const given = givenFlags(command);
  if (model !== undefined) {
    if (given['model.path'] !== undefined) throw new ConfigError(['the model is named twice']);
    given['model.path'] = model;
  }
  const { settings } = loadConfig({
    flags: given,
    configFile: command.opts<{ config?: string }>().config,
  });
  return { settings, given: new Set(Object.keys(given)) };
}
