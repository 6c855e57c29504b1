import { GrammarError } from '../errors.js';
import * as json from '../json.js';
import { nothing, type Pattern, repeat, rule, sequence } from '../pattern.js';
import { fromDraft4 } from './draft4.js';
import { formatRule } from './formats.js';
import type { Path, SchemaObject } from './keywords.js';
import { type Bound, integers, numbers } from './numbers.js';
import { countOf, type Reading } from './reading.js';
import { stringMatching } from './regex.js';

export function stringPattern(reading: Reading, schema: SchemaObject, path: Path): Pattern {
  const least = countOf(schema, 'minLength', path) ?? 0;
  const most = countOf(schema, 'maxLength', path) ?? Number.POSITIVE_INFINITY;
  const described = describedPattern(reading, schema, path);
  if (described) {
    if (least > 0 || most !== Number.POSITIVE_INFINITY) {
      reading.cannot("lengths beside 'pattern' or 'format' are not supported", path);
    }
    return described;
  }
  if (least > most) return nothing;
  if (least === 0 && most === Number.POSITIVE_INFINITY) return rule('string');
  return sequence('"', repeat(json.stringChar, least, most), '"');
}

/** By `format` or `pattern`; undefined if there is neither that can be enforced. */
function describedPattern(reading: Reading, schema: SchemaObject, path: Path): Pattern | undefined {
  const { pattern, format } = schema;
  const formatted = formatRule(format);
  if (format !== undefined && !formatted) {
    reading.cannot(`the format ${JSON.stringify(format)} is not supported`, [...path, 'format']);
  }
  if (pattern === undefined) return formatted;
  if (typeof pattern !== 'string') throw new GrammarError('expected a text', [...path, 'pattern']);
  if (formatted) reading.cannot("'pattern' beside 'format' is not supported", [...path, 'pattern']);
  try {
    return sequence('"', stringMatching(pattern), '"');
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    reading.cannot(error.message, [...path, 'pattern']);
    return undefined;
  }
}

export function numberPattern(
  reading: Reading,
  type: 'integer' | 'number',
  schema: SchemaObject,
  path: Path,
): Pattern {
  const { multipleOf } = schema;
  const isWhole = multipleOf === 1;
  if (multipleOf !== undefined && !isWhole) {
    reading.cannot("'multipleOf' other than 1 is not supported", [...path, 'multipleOf']);
  }
  const modern = fromDraft4(schema);
  const bound = (exclusive: boolean, keyword: string): Bound | undefined => {
    const value = modern[keyword];
    if (value === undefined) return undefined;
    if (typeof value !== 'number') throw new GrammarError('expected a number', [...path, keyword]);
    return { value, exclusive };
  };
  const tighter = (a: Bound | undefined, b: Bound | undefined, sign: 1 | -1): Bound | undefined => {
    if (!a || !b) return a ?? b;
    const difference = sign * (a.value - b.value);
    return difference > 0 || (difference === 0 && a.exclusive) ? a : b;
  };
  const least = tighter(bound(false, 'minimum'), bound(true, 'exclusiveMinimum'), 1);
  const most = tighter(bound(false, 'maximum'), bound(true, 'exclusiveMaximum'), -1);
  const bounds = { ...(least && { least }), ...(most && { most }) };
  return type === 'integer' || isWhole ? integers(bounds) : numbers(bounds);
}
