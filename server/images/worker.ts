/** The thread that decodes and resizes the images of requests, one after another. */
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { answerCalls } from '../worker-calls.js';
import { openDecoder } from './decoder.js';
import type { ReadCall, ReaderData } from './image-reader.js';
import { type ReadImage, readImage } from './read-image.js';

const { processing, limits } = workerData as ReaderData;

try {
  // As the thread that prepares bodies: lanes and streams go first.
  os.setPriority(0, os.constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // A container may forbid it; then the system shares the processor evenly.
}

const decoder = openDecoder();
// Each call is told where it could not be opened.
decoder.catch(() => undefined);

answerCalls<ReadCall, ReadImage | undefined>(
  parentPort!,
  async ({ source }) => {
    const opened = await decoder;
    return source && readImage(opened, source, processing, limits);
  },
  (image) => (image ? [image.pixels.buffer as ArrayBuffer] : []),
);
