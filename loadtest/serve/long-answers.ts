import { Random } from '../random.js';
import type { CompletionRequest } from './completion-stream.js';
import type { PromptSource } from './prompt-source.js';
import type { ServedModel } from './target.js';

/**
 * Requests of streams that keep running: a short prompt, and an answer over at least half of the context that is left.
 * No two answers are of a length by plan, so that streams that began together do not end together.
 */
export function longAnswers(
  model: ServedModel,
  prompts: PromptSource,
  promptTokens: number,
): () => CompletionRequest {
  const random = new Random(6);
  const room = model.contextLength - promptTokens;
  return () => ({
    model: model.id,
    prompt: prompts.next(promptTokens),
    maxTokens: room - random.below(Math.ceil(room / 2)),
  });
}
