/** A thread that compiles grammars. */
import { parentPort } from 'node:worker_threads';
import { compileGrammar, type GrammarSource, InvalidGrammar } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import { answerCalls } from '../worker-calls.js';

answerCalls<{ source: GrammarSource }>(parentPort!, ({ source }) => {
  try {
    return compileGrammar(source);
  } catch (error) {
    if (!(error instanceof InvalidGrammar)) throw error;
    const where = error.param === undefined ? 'the grammar' : `'${error.param}'`;
    throw invalidRequest(`Invalid ${where}: ${error.message}.`, error.param, 'invalid_grammar');
  }
});
