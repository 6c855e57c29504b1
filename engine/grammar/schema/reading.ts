import { GrammarError } from '../errors.js';
import type { Pattern } from '../pattern.js';
import type { Path, SchemaObject } from './keywords.js';

/** What the parts of a schema are read with. */
export interface Reading {
  /** What a schema inside of another one allows. */
  pattern(schema: unknown, path: Path, depth: number): Pattern;
  /** The pattern as it may be written out so many times. */
  shared(pattern: Pattern, times: number): Pattern;
  /** Something cannot be enforced: throws `GrammarError`, unless it is left to the model. */
  cannot(message: string, path: Path): void;
}

const mostCount = 10_000;

export function countOf(schema: SchemaObject, keyword: string, path: Path): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
    throw new GrammarError('expected a whole number from 0 on', [...path, keyword]);
  }
  if (value <= mostCount) return value;
  if (keyword.startsWith('max')) return undefined; // further than any answer goes
  throw new GrammarError(`at most ${mostCount} is supported`, [...path, keyword]);
}

export function listOf(value: unknown, path: Path): readonly unknown[] {
  if (!Array.isArray(value)) throw new GrammarError('expected an array', path);
  return value;
}
