import type { z } from 'zod';
import { invalidRequest } from './errors.js';

/**
 * Levels of arrays and objects in a body. What walks them (schemas, templates, the way between threads) does so by calls,
 * and somewhere beyond a thousand there is no stack left.
 */
const deepest = 512;

/** Parses and checks a body. Throws `ApiError` 400 that names the field, or where the JSON breaks. */
export function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): T {
  return checked(schema, parseJson(body));
}

/** Throws `ApiError` 400 that says where the JSON breaks. */
export function parseJson(body: Uint8Array): unknown {
  if (isDeeper(body, deepest)) {
    throw invalidRequest(`The body is nested deeper than ${deepest} levels.`, undefined, 'body_too_deep');
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : 'it is not valid UTF-8';
    throw invalidRequest(`The body is not valid JSON: ${reason}`, undefined, 'invalid_json');
  }
}

/** Throws `ApiError` 400 that names the field. */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const { path, message, input } = innermost(parsed.error.issues[0]!);
  const param = path.map(String).join('.');
  if (param && input === undefined) throw invalidRequest(`'${param}' is missing.`, param);
  throw invalidRequest(param ? `Invalid '${param}': ${message}` : message, param || undefined);
}

function isDeeper(body: Uint8Array, limit: number): boolean {
  const [quote, backslash, open, close] = [0x22, 0x5c, 0x5b, 0x5d];
  let depth = 0;
  let inText = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i]!;
    if (inText) {
      if (byte === backslash) i++;
      else if (byte === quote) inText = false;
    } else if (byte === quote) {
      inText = true;
    } else if ((byte | 0x20) === (open | 0x20)) {
      // [ and {, and below ] and }, differ in that one bit.
      if (++depth > limit) return true;
    } else if ((byte | 0x20) === (close | 0x20)) {
      depth--;
    }
  }
  return false;
}

type Issue = Pick<z.core.$ZodIssue, 'path' | 'message' | 'input'>;

/** Where a value may be one of several, the fault of the kind that it comes closest to: the one that fails furthest in. */
function innermost(issue: z.core.$ZodIssue): Issue {
  if (issue.code === 'invalid_key') return { ...issue, message: issue.issues[0]?.message ?? issue.message };
  if (issue.code !== 'invalid_union') return issue;
  const faults = issue.errors.flatMap(([first]) => first ?? []);
  const closest = faults.map(innermost).toSorted((a, b) => b.path.length - a.path.length)[0];
  if (closest && closest.path.length > 0) {
    return { path: [...issue.path, ...closest.path], message: closest.message, input: closest.input };
  }
  // What has one of the types is told what else is wrong with it; what has none, which there are.
  const ofItsType = faults.find(({ code }) => code !== 'invalid_type');
  const types = faults.flatMap((fault) => (fault.code === 'invalid_type' ? fault.expected : []));
  const message =
    ofItsType?.message ?? (types.length > 0 ? `expected ${[...new Set(types)].join(' or ')}` : issue.message);
  return { path: issue.path, message, input: issue.input };
}
