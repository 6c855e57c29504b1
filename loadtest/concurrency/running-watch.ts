import { setTimeout as sleep } from 'node:timers/promises';
import { figureIn, readMetrics } from '../serve/read-metrics.js';
import type { Target } from '../serve/target.js';

/** A server's state at one look. */
export interface Look {
  /** Milliseconds of `performance.now()`. */
  readonly at: number;
  /** Sequences that have a slot: they neither wait to start nor lie in host memory. */
  readonly running: number;
  /** Requests that have not started. */
  readonly waiting: number;
  /** Sequences that gave up their memory, since the server's start. */
  readonly preemptions: number;
  /** Tokens that sequences under pressure, or in partitions, gave up, since the server's start. */
  readonly dropped: number;
  /** What its KV memory is taken by, parts of 1. */
  readonly memory: KvShares;
}

export interface KvShares {
  /** Exact pages: what prompts that are read hold, and the prefix cache. */
  readonly exact: number;
  /** Pages of smaller classes. */
  readonly smaller: number;
  readonly free: number;
  /** Free pages in chunks of which others are in use, so that they are of use to their own class alone. */
  readonly scattered: number;
}

/** Between two looks, in milliseconds: a stream lives for seconds. */
const interval = 50;

/** Looks at a server's metrics again and again while `work` runs. */
export async function watchRunning<T>(
  target: Target,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly looks: readonly Look[] }> {
  const looks: Look[] = [await look(target)];
  const ended = new AbortController();
  const watch = async () => {
    while (!ended.signal.aborted) {
      await sleep(interval);
      looks.push(await look(target));
    }
  };
  const watching = watch();
  try {
    return { result: await work(), looks };
  } finally {
    ended.abort();
    await watching;
  }
}

async function look(target: Target): Promise<Look> {
  const values = await readMetrics(target);
  const value = figureIn(values, target);
  return {
    at: performance.now(),
    running: value('num_requests_running'),
    waiting: value('num_requests_waiting'),
    preemptions: value('num_preemptions_total'),
    dropped: value('kv_dropped_tokens_total'),
    memory: sharesOf(value),
  };
}

function sharesOf(value: (name: string) => number): KvShares {
  const exact = value('kv_class_bytes{class="bf16"}') / value('kv_bytes_total');
  const held = value('kv_bytes') / value('kv_bytes_total');
  const used = value('kv_blocks_used') / value('kv_blocks_total');
  return { exact, smaller: held - exact, free: 1 - used, scattered: used - held };
}
