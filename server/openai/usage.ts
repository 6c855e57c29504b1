import type { Usage } from '../../engine/index.js';
import { kvBody } from './kv-usage.js';

/** `usage` over all prompts of a request. */
export function usageBody(usages: readonly Usage[]): object {
  const sum = (pick: (usage: Usage) => number) => usages.reduce((total, usage) => total + pick(usage), 0);
  const prompt = sum((usage) => usage.promptTokens);
  const completion = sum((usage) => usage.completionTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum((usage) => usage.cachedTokens) },
    ...kvBody(usages),
  };
}
