import { type ApiError, invalidRequest } from './errors.js';

/** Refuses by name what would change the answer and is not there; nothing that matters is ignored in silence. */
export function refuseUnsupported(body: Record<string, unknown>): void {
  for (const name of ['functions', 'function_call', 'suffix', 'audio', 'prediction', 'web_search_options']) {
    if (body[name] != null && body[name] !== '') throw unsupported(name);
  }
}

export function unsupported(name: string): ApiError {
  return invalidRequest(`'${name}' is not supported.`, name, 'unsupported_parameter');
}
