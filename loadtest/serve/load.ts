import { setTimeout as sleep } from 'node:timers/promises';
import { type CompletionRequest, streamCompletion, type Trace } from './completion-stream.js';
import type { PromptSource } from './prompt-source.js';
import type { ServedModel, Target } from './target.js';

export interface LoadResult {
  readonly traces: readonly Trace[];
  /** From the first request's start to the last one's end. */
  readonly seconds: number;
  /** Of one core, what this process took meanwhile: near 1 the client is what was measured. */
  readonly clientCpuShare: number;
}

/** As many at once as `concurrency`; each client sends its next request when its last one has ended. */
export function closedLoop(
  target: Target,
  requests: readonly CompletionRequest[],
  concurrency: number,
): Promise<LoadResult> {
  return timed(async () => {
    const traces: Trace[] = [];
    const queue = requests.values();
    const client = async () => {
      for (const request of queue) traces.push(await streamCompletion(target, request));
    };
    await Promise.all(Array.from({ length: concurrency }, client));
    return traces;
  });
}

/**
 * Requests arrive at their times (`arrivals`, in seconds after the start), however many are running. Times count from the
 * arrival, not from when it was sent.
 */
export function openLoop(
  target: Target,
  requests: readonly CompletionRequest[],
  arrivals: readonly number[],
): Promise<LoadResult> {
  return timed(() => {
    const begin = performance.now();
    return Promise.all(
      requests.map(async (request, index) => {
        const dueAt = begin + arrivals[index]! * 1000;
        await sleep(Math.max(0, dueAt - performance.now()));
        return streamCompletion(target, request, { dueAt });
      }),
    );
  });
}

/** Compiles what runs; not counted. A failure shows in those that count. */
export async function warmUp(target: Target, { id }: ServedModel, prompts: PromptSource): Promise<void> {
  await streamCompletion(target, { model: id, prompt: prompts.next(16), maxTokens: 8 });
}

/** Why requests failed, each reason with its number of requests. */
export function failuresOf({ traces }: LoadResult): string[] {
  const failures = new Map<string, number>();
  for (const { error } of traces) {
    if (error !== undefined) failures.set(error, (failures.get(error) ?? 0) + 1);
  }
  return Array.from(failures, ([failure, count]) => `${count} failed: ${failure}`);
}

async function timed(load: () => Promise<Trace[]>): Promise<LoadResult> {
  const cpu = process.cpuUsage();
  const begin = performance.now();
  const traces = await load();
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { traces, seconds, clientCpuShare: (user + system) / 1e6 / seconds };
}
