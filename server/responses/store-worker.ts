/** The thread that keeps responses. */
import { parentPort, workerData } from 'node:worker_threads';
import { ApiError } from '../openai/errors.js';
import { answerCalls } from '../worker-calls.js';
import { ResponseDatabase } from './response-database.js';
import type { StoreCall, StoreSource } from './store.js';

/** How often what has expired is deleted while nothing is written. */
const expiryMs = 60_000;

let database: ResponseDatabase | undefined;

function open(): ResponseDatabase {
  database ??= new ResponseDatabase(workerData as StoreSource, Date.now);
  return database;
}

setInterval(() => {
  try {
    database?.deleteExpired();
  } catch {
    // A full disk, or a lock that is held: what has expired is not shown, and goes another time.
  }
}, expiryMs).unref();

answerCalls<StoreCall>(parentPort!, (call) => {
  try {
    return answer(call);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(500, 'server_error', `The response store failed: ${(error as Error).message}`);
  }
});

function answer(call: StoreCall): unknown {
  switch (call.do) {
    case 'open':
      open();
      return null;
    case 'put':
      open().put(call.response);
      return null;
    case 'get':
      return open().get(call.owner, call.id);
    case 'delete':
      return open().delete(call.owner, call.id);
    case 'items':
      return open().items(call.owner, call.id);
    case 'find':
      return open().find(call.owner, call.needs, call.maxBytes);
    case 'close':
      database?.close();
      database = undefined;
      return null;
  }
}
