import type { Random } from '../random.js';
import { readTrace } from '../simulate/workloads/trace.js';
import type { Arrival } from '../simulate/workloads/workload.js';
import type { CompletionRequest } from './completion-stream.js';
import { withinContext } from './context-limit.js';
import type { PromptSource } from './prompt-source.js';
import type { ServedModel } from './target.js';

export interface ReplayOptions {
  readonly file: string;
  /** The first so many requests; all if absent. */
  readonly requests?: number;
  /** A second of the trace takes so many here. */
  readonly timeScale: number;
  /** On prompts and outputs. */
  readonly lengthScale: number;
  /** Arrivals a second on average, in place of the trace's own pace. */
  readonly rate?: number;
}

/** The requests of a recorded trace with the seconds at which they arrive. Throws an Error that says what the file lacks. */
export function readReplay(options: ReplayOptions, random: Random): Arrival[] {
  const { file, timeScale, lengthScale, requests = Number.POSITIVE_INFINITY } = options;
  const trace = readTrace(file, { lengthScale });
  if (trace.recordedRate === null && options.rate === undefined) {
    throw new Error(`${file} holds no times: give the arrivals a second with --rate`);
  }
  const rate = options.rate ?? trace.recordedRate! / timeScale;
  return [...trace.arrivals(rate, requests, random)];
}

export interface Replay {
  readonly requests: readonly CompletionRequest[];
  /** Seconds after the start. */
  readonly arrivals: readonly number[];
  /** The same with the lengths that were sent. */
  readonly sent: readonly Arrival[];
  readonly shortened: number;
}

/**
 * What is sent for these arrivals. Prompts that began alike when the trace was recorded do so here, where it says which;
 * no two others do.
 */
export function replayOf(arrivals: readonly Arrival[], model: ServedModel, prompts: PromptSource): Replay {
  let shortened = 0;
  const sent = arrivals.map((arrival) => {
    const { promptTokens, outputTokens, isShortened } = withinContext(model, arrival);
    if (isShortened) shortened += 1;
    return { ...arrival, promptTokens, outputTokens };
  });
  const requests = sent.map(({ promptTokens, outputTokens, blockHashes }) => ({
    model: model.id,
    prompt: prompts.ofBlocks(blockHashes, promptTokens),
    maxTokens: outputTokens,
  }));
  return { requests, arrivals: arrivals.map(({ atSeconds }) => atSeconds), sent, shortened };
}
