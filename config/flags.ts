import { type Command, Option as Flag } from 'commander';
import { defaultText, type Option, options } from './options.js';

/** Gives a command the flags of these sections of the schema, and `--config`. */
export function addSettingFlags(command: Command, sections: readonly string[]): void {
  command.optionsGroup('Settings (see docs/configuration.md):');
  command.option(
    '--config <file>',
    'JSON file with settings (default: tandem.config.json where there is one)',
  );
  for (const option of options.filter(({ section }) => sections.includes(section))) {
    for (const flag of flagsOf(option)) command.addOption(flag);
  }
}

/** The values of setting flags that were given on the command line, by key, unparsed. */
export function givenFlags(command: Command): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const option of options) {
    const name = attributeName(option);
    if (command.getOptionValueSource(name) === 'cli') given[option.key] = command.getOptionValue(name);
  }
  return given;
}

function flagsOf(option: Option): Flag[] {
  const long = `--${option.flag}`;
  const description = describe(option);
  if (option.type === 'boolean') {
    // Both forms exist, so that a flag can overrule the environment and the file in either direction.
    const shown = option.default ? [`--no-${option.flag}`, long] : [long, `--no-${option.flag}`];
    return shown.map((name, index) => {
      const flag = new Flag(name, option.default ? `do not ${option.description}` : description);
      return index === 0 ? flag : flag.hideHelp();
    });
  }
  const flag = new Flag(`${long} <${placeholder(option)}>`, description);
  if (option.type === 'list') {
    flag.argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value]);
  }
  return [flag];
}

function describe(option: Option): string {
  const shown = option.default === false ? undefined : defaultText(option);
  return shown === undefined ? option.description : `${option.description} (default: ${shown})`;
}

function placeholder(option: Option): string {
  switch (option.type) {
    case 'integer':
    case 'number':
      return 'n';
    case 'bytes':
      return 'bytes';
    case 'file':
      return option.key === 'model.path' ? 'folder' : 'file';
    case 'choice':
      return option.choices.join('|');
    case 'list':
      return 'value,...';
    default:
      return 'text';
  }
}

function attributeName(option: Option): string {
  return option.flag.replace(/-[a-z]/g, (part) => part[1]!.toUpperCase());
}
