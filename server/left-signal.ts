import type { Response } from 'express';

/** Aborted when the client of a response has left, or has all of it. */
export function leftSignal(response: Response): AbortSignal {
  const controller = new AbortController();
  response.on('close', () => controller.abort());
  if (response.destroyed) controller.abort();
  return controller.signal;
}
