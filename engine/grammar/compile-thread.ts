/** A thread that compiles grammars, one after another: `{call, source}` is answered by `{call, result}`. */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { compileGrammar, InvalidGrammar } from './compile.js';
import type { CompileReply } from './compile-reply.js';
import type { GrammarSource } from './source.js';
import { warmUp } from './warm-up.js';

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

parentPort!.on('message', ({ call, source }: { call: number; source: GrammarSource }) => {
  parentPort!.postMessage({ call, result: replyTo(source) });
});

const warming = warmUp();
function goOn(): void {
  // Whoever asks meanwhile is answered in between.
  if (!warming.next().done) setImmediate(goOn);
}
goOn();

function replyTo(source: GrammarSource): CompileReply {
  try {
    return { compiled: compileGrammar(source) };
  } catch (error) {
    if (!(error instanceof InvalidGrammar)) throw error;
    return { invalid: { message: error.message, param: error.param } };
  }
}
