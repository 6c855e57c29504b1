import type { Usage } from '../../engine/index.js';
import { kvBody } from '../openai/kv-usage.js';

/** `usage` of a response. Nothing here reasons, so no token is a reasoning token. */
export function responseUsage(usage: Usage): object {
  return {
    input_tokens: usage.promptTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens },
    output_tokens: usage.completionTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.promptTokens + usage.completionTokens,
    ...kvBody([usage]),
  };
}
