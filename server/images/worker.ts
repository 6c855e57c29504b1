/** The thread that decodes and resizes the images of requests, one after another. */
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { answerCalls } from '../worker-calls.js';
import type { ReadCall, ReaderData } from './image-reader.js';
import { type ReadImage, readImage } from './read-image.js';

const { processing, limits } = workerData as ReaderData;

try {
  // As the thread that prepares bodies: lanes and streams go first.
  os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // A container may forbid it; then the system shares the processor evenly.
}

answerCalls<ReadCall, ReadImage>(
  parentPort!,
  ({ source }) => readImage(source, processing, limits),
  ({ pixels }) => [pixels.buffer as ArrayBuffer],
);
