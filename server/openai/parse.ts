import type { z } from 'zod';
import { invalidRequest } from './errors.js';

/** Parses and checks a body. Throws `ApiError` 400 that names the field, or where the JSON breaks. */
export function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): T {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : 'it is not valid UTF-8';
    throw invalidRequest(`The body is not valid JSON: ${reason}`, undefined, 'invalid_json');
  }
  return checked(schema, json);
}

/** Throws `ApiError` 400 that names the field. */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const param = issue.path.map(String).join('.');
  throw invalidRequest(param ? `Invalid '${param}': ${issue.message}` : issue.message, param || undefined);
}
