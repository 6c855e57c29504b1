/** A thread that prepares large bodies, with less right to the processor than the lanes and the streams. */
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { toApiError } from '../openai/errors.js';
import {
  type ContextSource,
  openContext,
  type Preparation,
  type PrepareReply,
  preparations,
} from './preparer.js';

const port = parentPort!;

const context = await openContext(workerData as ContextSource);

try {
  // On Linux the priority is the calling thread's own. Not the lowest: beside lanes that keep all cores busy that one gets
  // a seventieth of a core, and a large body waits for seconds. Streams feel no difference between the two.
  os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // A container may forbid it; then the system shares the processor evenly.
}

port.on('message', ({ call, kind, body }: { call: number; kind: Preparation; body: Uint8Array }) => {
  let reply: PrepareReply;
  try {
    reply = { call, result: preparations[kind](context, body) };
  } catch (error) {
    const { status, type, message, details } = toApiError(error);
    reply = { call, error: { status, type, message, details } };
  }
  port.postMessage(reply);
});
