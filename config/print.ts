import { options } from './options.js';
import type { ResolvedConfig } from './resolve.js';

/** What `--print-config` shows: every setting, its value and where that came from. Keys are not shown in clear. */
export function printConfig({ settings, sources }: ResolvedConfig): string {
  const rows = options.map((option) => {
    const section = (settings as unknown as Record<string, Record<string, unknown>>)[option.section]!;
    return {
      key: option.key,
      value: show(option.key, section[option.name]),
      source: sources.get(option.key)!,
    };
  });
  const keyWidth = Math.max(...rows.map(({ key }) => key.length));
  const valueWidth = Math.min(48, Math.max(...rows.map(({ value }) => value.length)));
  return rows
    .map(({ key, value, source }) => `${key.padEnd(keyWidth)}  ${value.padEnd(valueWidth)}  ${source}`)
    .join('\n');
}

function show(key: string, value: unknown): string {
  if (value === undefined) return 'not set';
  if (key === 'server.apiKey') return `${(value as string[]).length} keys`;
  if (key === 'server.adminKey') return 'set';
  if (Array.isArray(value)) return value.length > 0 ? value.join(', ') : 'none';
  return String(value);
}
