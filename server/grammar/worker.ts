/** A thread that compiles grammars. */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { compileGrammar, type GrammarSource, InvalidGrammar } from '../../engine/index.js';
import { invalidRequest } from '../openai/errors.js';
import { answerCalls } from '../worker-calls.js';

// Streams that run do not wait for what is to be written next, which at the lowest priority would wait for seconds on a
// busy machine. On Linux the priority is the thread's own; elsewhere it would be the whole server's.
if (process.platform === 'linux') {
  try {
    os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // A container may forbid it; then the system shares the processor evenly.
  }
  (workerData as Int32Array)[0] = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
}

// What all schemas have in common, before anybody waits for it.
compileGrammar({ type: 'json' });

answerCalls<{ source: GrammarSource }>(parentPort!, ({ source }) => {
  try {
    return compileGrammar(source);
  } catch (error) {
    if (!(error instanceof InvalidGrammar)) throw error;
    const where = error.param === undefined ? 'the grammar' : `'${error.param}'`;
    throw invalidRequest(`Invalid ${where}: ${error.message}.`, error.param, 'invalid_grammar');
  }
});
