import { EngineError } from './errors.js';
import type { EngineInfo, GenerateRequest } from './types.js';

/** Why the model can never answer the request; undefined: it can. So many first tokens of its prompt were checked before. */
export function requestFault(
  { prompt, maxTokens }: GenerateRequest,
  { spec, contextLength }: EngineInfo,
  checkedTokens: number,
): EngineError | undefined {
  const prompted = (message: string) => new EngineError('invalid_request', message, { part: 'prompt' });
  if (prompt.length === 0) return prompted('The prompt has no tokens.');
  const unknown = prompt.subarray(checkedTokens).find((token) => token < 0 || token >= spec.vocab);
  if (unknown !== undefined) {
    return prompted(`The prompt has token ${unknown}; the vocabulary has ${spec.vocab} tokens.`);
  }
  const needed = prompt.length + maxTokens;
  if (needed <= contextLength) return undefined;
  return new EngineError(
    'context_length_exceeded',
    `This model's context length is ${contextLength} tokens, but ${needed} were asked for ` +
      `(${prompt.length} in the prompt, ${maxTokens} for the completion). ` +
      'Shorten the prompt or the completion.',
    { part: prompt.length < contextLength ? 'maxTokens' : 'prompt' },
  );
}
