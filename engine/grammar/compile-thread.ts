/** A thread that compiles grammars, one after another: `{call, source, givenUp}` is answered by `{call, result}`. */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { compileGrammar, InvalidGrammar } from './compile.js';
import type { CompileReply, CompileSettings } from './compile-reply.js';
import { Effort, TooMuchEffort } from './effort.js';
import type { GrammarSource } from './source.js';
import { warmUp } from './warm-up.js';

const { thread, effort } = workerData as CompileSettings;
const isLinux = process.platform === 'linux';
if (isLinux) thread[0] = Number(readlinkSync('/proc/thread-self').split('/').at(-1));

// Streams that run do not wait for a large grammar that is to be written next, which at the lowest priority would wait for
// seconds on a busy machine. On Linux the priority is the thread's own; elsewhere it would be the whole server's.
if (effort === undefined && isLinux) {
  try {
    os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // A container may forbid it; then the system shares the processor evenly.
  }
}

interface Asked {
  readonly call: number;
  readonly source: GrammarSource;
  /** Shared: 1 when nobody waits for it any more. */
  readonly givenUp?: Int32Array;
}

parentPort!.on('message', ({ call, source, givenUp }: Asked) => {
  const isGivenUp = givenUp !== undefined && Atomics.load(givenUp, 0) === 1;
  const result: CompileReply = isGivenUp ? { givenUp: true } : replyTo(source);
  parentPort!.postMessage({ call, result });
});

// What is large takes long either way.
if (effort !== undefined) goOn(warmUp());

function goOn(warming: Iterator<void>): void {
  // Whoever asks meanwhile is answered in between.
  if (!warming.next().done) setImmediate(goOn, warming);
}

function replyTo(source: GrammarSource): CompileReply {
  try {
    return { compiled: compileGrammar(source, new Effort(effort)) };
  } catch (error) {
    if (error instanceof TooMuchEffort) return { tooMuch: true };
    if (!(error instanceof InvalidGrammar)) throw error;
    return { invalid: { message: error.message, param: error.param } };
  }
}
