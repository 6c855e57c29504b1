import { type Pattern, rule, sequence } from '../pattern.js';
import { stringMatching } from './regex.js';

const octet = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const date =
  '\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const time = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)';
const label = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?';
const hex = '[0-9a-fA-F]';

/** Formats of strings that are enforced, as regular expressions. Others are refused where a schema is strict. */
const formats: ReadonlyMap<string, string> = new Map(
  Object.entries({
    date: `^${date}$`,
    time: `^${time}$`,
    'date-time': `^${date}T${time}$`,
    duration: '^P(\\d{1,4}W|\\d{1,4}D|\\d{1,4}Y|T\\d{1,4}[HMS]|\\d{1,4}DT\\d{1,4}[HMS])$',
    email: `^[a-zA-Z0-9_+-]{1,32}(\\.[a-zA-Z0-9_+-]{1,32}){0,3}@${label}(\\.${label}){0,3}\\.[a-z]{2,8}$`,
    hostname: `^${label}(\\.${label}){0,5}$`,
    ipv4: `^(${octet}\\.){3}${octet}$`,
    ipv6: `^(${hex}{1,4}:){7}${hex}{1,4}$`,
    uuid: `^${hex}{8}-${hex}{4}-${hex}{4}-${hex}{4}-${hex}{12}$`,
    uri: `^https?://${label}(\\.${label}){0,3}(:\\d{1,4})?(/[a-zA-Z0-9._~-]{0,64}){0,8}$`,
  }),
);

export const formatNames: readonly string[] = [...formats.keys()];

const prefix = 'format ';

/** Calls the rule of a format; undefined if it is not enforced. */
export function formatRule(format: unknown): Pattern | undefined {
  return typeof format === 'string' && formats.has(format) ? rule(prefix + format) : undefined;
}

/** What a rule stands for, quotes included; undefined if it is not that of a format. */
export function formatPattern(name: string): Pattern | undefined {
  const expression = name.startsWith(prefix) ? formats.get(name.slice(prefix.length)) : undefined;
  return expression === undefined ? undefined : sequence('"', stringMatching(expression), '"');
}
