import type { Server } from 'node:http';
import type { Metrics } from './metrics.js';

/**
 * Files that the process needs beside its connections: some 40 for the model, the store, its threads and pipes, and about 100
 * for each thread that starts, which opens its modules side by side. With none left Node itself aborts.
 */
const ownFiles = 256;

/**
 * Takes no more connections than the process may have files open, so that it is never the store or a thread that finds
 * none left. What comes beyond is closed, and counted.
 */
export function limitConnections(http: Server, metrics: Metrics, wanted: number | undefined): void {
  const openFiles = openFileLimit();
  const possible = openFiles === undefined ? Number.POSITIVE_INFINITY : Math.max(8, openFiles - ownFiles);
  const most = Math.min(possible, wanted ?? Number.POSITIVE_INFINITY);
  if (Number.isFinite(most)) http.maxConnections = most;
  http.on('drop', () => metrics.droppedConnections.inc());
}

/** Undefined where the system has no limit, or does not say. */
function openFileLimit(): number | undefined {
  const report = process.report.getReport() as unknown as {
    userLimits?: { open_files?: { soft: number | 'unlimited' } };
  };
  const limit = report.userLimits?.open_files?.soft;
  return typeof limit === 'number' ? limit : undefined;
}
