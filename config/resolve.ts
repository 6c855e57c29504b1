import path from 'node:path';
import { didYouMean } from './nearest.js';
import { type Option, options, optionsByKey } from './options.js';
import { Settings } from './schema.js';

/** Where a setting's value came from; earlier ones win over later ones. */
export type Source = 'flag' | 'environment' | 'file' | 'default';

export interface ConfigInputs {
  /** Values of flags that were given, by key (`engine.maxSequences`), unparsed. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The config file's parsed JSON, where there is one. */
  readonly file?: { readonly path: string; readonly content: unknown };
  /** Relative paths in flags and the environment start here; those in a file start at its folder. */
  readonly cwd: string;
  /** Relative default paths start here. */
  readonly packageRoot: string;
}

export interface ResolvedConfig {
  /** Deeply frozen. */
  readonly settings: Settings;
  readonly sources: ReadonlyMap<string, Source>;
}

/** Everything that is wrong with the configuration, one problem a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

interface Given {
  readonly source: Source;
  /** How the person wrote it: `--port`, `TANDEM_PORT`, `server.port in tandem.config.json`. */
  readonly label: string;
  readonly value: unknown;
  readonly base: string;
}

/** Merges flag > environment > file > default and checks the result. Throws `ConfigError` with every problem. */
export function resolveConfig(inputs: ConfigInputs): ResolvedConfig {
  const problems: string[] = [];
  const fromEnv = readEnvironment(inputs, problems);
  const fromFile = readFile(inputs, problems);

  const merged: Record<string, Record<string, unknown>> = {};
  const sources = new Map<string, Source>();
  const labels = new Map<string, string>();
  for (const option of options) {
    const given = fromFlag(option, inputs) ?? fromEnv.get(option.key) ?? fromFile.get(option.key);
    sources.set(option.key, given?.source ?? 'default');
    merged[option.section] ??= {};
    const section = merged[option.section]!;
    if (!given) {
      if (option.type === 'file' && typeof option.default === 'string') {
        section[option.name] = path.resolve(inputs.packageRoot, option.default);
      }
      continue;
    }
    labels.set(option.key, given.label);
    try {
      section[option.name] = parseValue(option, given);
    } catch (error) {
      problems.push(`${given.label}: ${(error as Error).message}`);
    }
  }

  const parsed = Settings.safeParse(merged);
  for (const issue of parsed.error?.issues ?? []) {
    const key = issue.path.slice(0, 2).join('.');
    problems.push(
      `${labels.get(key) ?? key}: ${outOfRange(optionsByKey.get(key), issue.code) ?? issue.message}`,
    );
  }
  // A value may break several rules of which one thing is said.
  if (problems.length > 0 || !parsed.success) throw new ConfigError([...new Set(problems)]);
  return { settings: deepFreeze(parsed.data), sources };
}

function fromFlag(option: Option, inputs: ConfigInputs): Given | undefined {
  const value = inputs.flags[option.key];
  if (value === undefined) return undefined;
  return { source: 'flag', label: `--${option.flag}`, value, base: inputs.cwd };
}

/** Read before there are settings: where they stand, and by set-up (scripts/cuda.mjs). */
const notSettings: readonly string[] = ['TANDEM_CONFIG', 'TANDEM_CUDA'];

function readEnvironment(inputs: ConfigInputs, problems: string[]): Map<string, Given> {
  const byName = new Map(options.map((option) => [option.env, option]));
  const found = new Map<string, Given>();
  for (const [name, value] of Object.entries(inputs.env)) {
    if (!name.startsWith('TANDEM_') || notSettings.includes(name)) continue;
    if (value === undefined || value === '' || isKubernetesServiceLink(name, value)) continue;
    const option = byName.get(name);
    if (!option) {
      problems.push(`environment variable ${name} is unknown${didYouMean(name, byName.keys())}`);
      continue;
    }
    found.set(option.key, { source: 'environment', label: name, value, base: inputs.cwd });
  }
  return found;
}

/** A Kubernetes service called "tandem" puts these into every pod of its namespace. */
function isKubernetesServiceLink(name: string, value: string): boolean {
  return (
    /^TANDEM_(SERVICE_(HOST|PORT)|PORT_\d+_)/.test(name) || (name === 'TANDEM_PORT' && value.includes('://'))
  );
}

function readFile(inputs: ConfigInputs, problems: string[]): Map<string, Given> {
  const found = new Map<string, Given>();
  if (!inputs.file) return found;
  const { path: filePath, content } = inputs.file;
  const fileName = path.basename(filePath);
  if (!isObject(content)) {
    problems.push(`${fileName}: expected an object with sections such as "engine"`);
    return found;
  }
  const sections = [...new Set(options.map((option) => option.section))];
  for (const [section, fields] of Object.entries(content)) {
    if (!sections.includes(section)) {
      problems.push(`${fileName}: section "${section}" is unknown${suggestSection(section, sections)}`);
      continue;
    }
    if (!isObject(fields)) {
      problems.push(`${fileName}: "${section}" must be an object`);
      continue;
    }
    for (const [name, value] of Object.entries(fields)) {
      const key = `${section}.${name}`;
      if (!optionsByKey.has(key)) {
        problems.push(`${fileName}: ${key} is unknown${didYouMean(key, optionsByKey.keys())}`);
        continue;
      }
      const label = `${key} in ${fileName}`;
      found.set(key, { source: 'file', label, value, base: path.dirname(filePath) });
    }
  }
  return found;
}

function suggestSection(word: string, sections: readonly string[]): string {
  // A setting written at the top level is the likeliest mistake: say where it belongs.
  const inSection = options.find((option) => option.name === word);
  return inSection ? `; did you mean ${inSection.key}?` : didYouMean(word, sections);
}

/** Flags and the environment bring strings; a file brings JSON values, which zod checks. */
function parseValue(option: Option, given: Given): unknown {
  const { value } = given;
  if (option.type === 'choice' && typeof value === 'string' && !option.choices.includes(value)) {
    const list = option.choices.join(', ');
    throw new Error(`"${value}" is not one of ${list}${didYouMean(value, option.choices)}`);
  }
  if (option.type === 'file' && typeof value === 'string') return path.resolve(given.base, value);
  if (given.source === 'file') return value;
  if (option.type === 'list') {
    const items = Array.isArray(value) ? value : [value];
    return items.flatMap((item) => String(item).split(',')).map((item) => item.trim());
  }
  if (option.type === 'integer' && typeof value === 'string') {
    if (!/^[+-]?\d+$/.test(value.trim())) throw new Error(`expected a whole number, found "${value}"`);
    return Number(value);
  }
  if (option.type === 'number' && typeof value === 'string') {
    if (!/^[+-]?\d+(\.\d+)?$/.test(value.trim())) throw new Error(`expected a number, found "${value}"`);
    return Number(value);
  }
  if (option.type === 'boolean' && typeof value === 'string') {
    if (/^(1|true|yes|on)$/i.test(value)) return true;
    if (/^(0|false|no|off)$/i.test(value)) return false;
    throw new Error(`expected true or false, found "${value}"`);
  }
  return value;
}

function outOfRange(option: Option | undefined, code: string): string | undefined {
  const isBounded = option?.type === 'integer' || option?.type === 'number';
  if (!isBounded || (code !== 'too_big' && code !== 'too_small')) return undefined;
  const { minimum, maximum } = option;
  return maximum === undefined ? `must be at least ${minimum}` : `must be ${minimum} to ${maximum}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
