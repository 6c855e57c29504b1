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

try {
  // On Linux the priority is the calling thread's own.
  os.setPriority(0, os.constants.priority.PRIORITY_LOW);
} catch {
  // A container may forbid it; then the system shares the processor evenly.
}

const context = openContext(workerData as ContextSource);

port.on('message', async ({ call, kind, body }: { call: number; kind: Preparation; body: Uint8Array }) => {
  let reply: PrepareReply;
  try {
    reply = { call, result: preparations[kind](await context, body) };
  } catch (error) {
    const { status, type, message, details } = toApiError(error);
    reply = { call, error: { status, type, message, details } };
  }
  port.postMessage(reply);
});
