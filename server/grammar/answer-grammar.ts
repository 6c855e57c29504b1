import type { GrammarPart } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import type { SharedBody } from '../openai/schemas.js';
import type { PreparedPrompt } from '../prepare/prepared.js';

/** What tools ask of the form of answers. */
export interface CallsGrammar {
  readonly choice: 'required' | 'auto';
  /** Answers that are calls and nothing else. */
  readonly calls: GrammarPart;
  /** Answers that may be text, with calls in it; absent where calls are the model's own affair. */
  readonly mixed?: GrammarPart;
}

/** Puts together what a body asks of the form of its answers. Throws `ApiError` where it asks for two that exclude each other. */
export function answerGrammar(
  { grammar }: Pick<SharedBody, 'grammar'>,
  format: GrammarPart | undefined,
  tools?: CallsGrammar,
): Pick<PreparedPrompt, 'grammar'> {
  if (grammar != null) {
    if (format) throw invalidRequest("'grammar' cannot go with another format of the answer.", 'grammar');
    if (tools) throw invalidRequest("'grammar' cannot go with 'tools'.", 'grammar');
    return { grammar: { type: 'gbnf', text: grammar, param: 'grammar' } };
  }
  if (tools?.choice === 'required') return { grammar: tools.calls };
  if (format) return { grammar: tools ? { type: 'choice', options: [tools.calls, format] } : format };
  return tools?.mixed ? { grammar: tools.mixed } : {};
}
