import { z } from 'zod';
import { Settings } from './schema.js';

/** One setting as a person meets it: its key in a file, its flag, its environment variable and its help. */
export interface Option {
  /** `engine.maxSequences` */
  readonly key: string;
  readonly section: string;
  readonly name: string;
  /** `max-sequences`, without the dashes. */
  readonly flag: string;
  /** `TANDEM_MAX_SEQUENCES` */
  readonly env: string;
  readonly type: 'text' | 'file' | 'integer' | 'number' | 'bytes' | 'boolean' | 'choice' | 'list';
  /** Of a `choice`. */
  readonly choices: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly description: string;
  /** After parsing; undefined where the engine decides at start. */
  readonly default: unknown;
}

interface JsonSchema {
  readonly type?: string | string[];
  readonly properties?: Record<string, JsonSchema>;
  readonly enum?: string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly description?: string;
  readonly flag?: string;
  readonly file?: boolean;
}

/** Every setting, in the schema's order. */
export const options: readonly Option[] = readSchema();

export const optionsByKey: ReadonlyMap<string, Option> = new Map(
  options.map((option) => [option.key, option]),
);

/** The default as a person reads it; undefined where there is none. */
export function defaultText({ type, default: value }: Option): string | undefined {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return undefined;
  return type === 'bytes' ? `${Number(value) / 2 ** 20} MiB` : String(value);
}

function readSchema(): Option[] {
  const schema = z.toJSONSchema(Settings, { io: 'input' }) as JsonSchema;
  const defaults = Settings.parse({}) as Record<string, Record<string, unknown>>;
  const found: Option[] = [];
  for (const [section, { properties }] of Object.entries(schema.properties ?? {})) {
    for (const [name, field] of Object.entries(properties ?? {})) {
      const flag = field.flag ?? kebabCase(name);
      found.push({
        key: `${section}.${name}`,
        section,
        name,
        flag,
        env: `TANDEM_${flag.replaceAll('-', '_').toUpperCase()}`,
        type: typeOf(field),
        choices: field.enum ?? [],
        ...(field.minimum === undefined ? {} : { minimum: field.minimum }),
        // JSON Schema spells "no upper bound" of an integer so.
        ...(field.maximum === undefined || field.maximum === Number.MAX_SAFE_INTEGER
          ? {}
          : { maximum: field.maximum }),
        description: field.description ?? '',
        default: defaults[section]?.[name],
      });
    }
  }
  return found;
}

function typeOf(field: JsonSchema): Option['type'] {
  if (Array.isArray(field.type)) return 'bytes';
  if (field.enum) return 'choice';
  if (field.type === 'array') return 'list';
  if (field.type === 'boolean' || field.type === 'integer' || field.type === 'number') return field.type;
  return field.file ? 'file' : 'text';
}

function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
