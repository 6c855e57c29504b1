/** A thread that prepares large bodies, with less right to the processor than the lanes and the streams. */
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { answerCalls } from '../worker-calls.js';
import { type ContextSource, openContext, type PrepareCall, prepareWith } from './preparations.js';

const context = await openContext(workerData as ContextSource);

try {
  // On Linux the priority is the calling thread's own. By the kernel's weights the lowest gets 15 parts to the 1024 of a
  // lane on the same core, and a large body waits for seconds; this one gets 110. Streams may pay a little for it: their
  // TBT p99 meanwhile was 18 to 25 ms instead of 14 to 20, within the spread of five turns each
  // (tandem bench serve --scenario large-body --seconds 2 --repetitions 5, demo model, 2 cores).
  os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // A container may forbid it; then the system shares the processor evenly.
}

answerCalls<PrepareCall>(parentPort!, (call) => prepareWith(context, call));
