import type { GrammarPart, GrammarSource } from '../../engine/index.js';
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

/** Bytes of a source, as JSON. */
const mostBytes = 256 * 1024;

/** Puts together what a body asks of the form of its answers. Throws `ApiError` where it asks for two that exclude each other. */
export function answerGrammar(
  { grammar }: Pick<SharedBody, 'grammar'>,
  format: GrammarPart | undefined,
  tools?: CallsGrammar,
): Pick<PreparedPrompt, 'grammar'> {
  const source = sourceOf(grammar, format, tools);
  if (!source) return {};
  const fault = faultOf(source);
  if (fault) {
    const param = 'param' in source ? source.param : undefined;
    const what = param ? `'${param}'` : 'form of the answer';
    throw invalidRequest(`The ${what} ${fault}.`, param, 'grammar_too_large');
  }
  return { grammar: source };
}

function faultOf(source: GrammarSource): string | undefined {
  try {
    return JSON.stringify(source).length > mostBytes ? `has more than ${mostBytes} bytes` : undefined;
  } catch {
    return 'is nested too deep'; // the stack was too small for it
  }
}

function sourceOf(
  grammar: string | null | undefined,
  format: GrammarPart | undefined,
  tools: CallsGrammar | undefined,
): GrammarSource | undefined {
  if (grammar != null) {
    if (format) throw invalidRequest("'grammar' cannot go with another format of the answer.", 'grammar');
    if (tools) throw invalidRequest("'grammar' cannot go with 'tools'.", 'grammar');
    return { type: 'gbnf', text: grammar, param: 'grammar' };
  }
  if (tools?.choice === 'required') return tools.calls;
  if (format) return tools ? { type: 'choice', options: [tools.calls, format] } : format;
  return tools?.mixed;
}
