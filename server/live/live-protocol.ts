import type { EngineInfo, EngineStats, SchedulerReport } from '../../engine/index.js';
import type { BinCounts, latencyBins } from './latency-bins.js';

/**
 * The frames of `WS /debug/live`, which the dashboard draws. The server speaks, and hears nothing. `hello` comes first, and
 * again when the model is there or the reader has missed samples; samples follow, one every `sampleMs`.
 */
export type LiveFrame = HelloFrame | SampleFrame;

export type ServerStatus = 'loading' | 'ready' | 'draining' | 'failed';

export interface HelloFrame {
  readonly type: 'hello';
  /** Milliseconds since 1970. Another one than before: the server was restarted. */
  readonly startedAt: number;
  /** Counts the engines that were seen; another one than before took the place of one that was lost. */
  readonly engineNumber: number;
  readonly sampleMs: number;
  /** What the bins of samples stand for. */
  readonly latencyBins: typeof latencyBins;
  /** Absent while the model loads. */
  readonly engine?: EngineFacts;
  /** Those that have ended lately, the newest first. */
  readonly requests: readonly RequestRow[];
}

/** What stays the same while an engine lives. */
export interface EngineFacts extends Pick<EngineInfo, 'model' | 'weights' | 'contextLength' | 'kvPrecision'> {
  readonly kvBytes: number;
  readonly kvBytesPerToken: number;
  readonly device: Pick<EngineInfo['device'], 'kind' | 'name' | 'isa' | 'units'>;
  readonly maxSequences: number;
  readonly maxQueue: number;
}

export interface SampleFrame {
  readonly type: 'sample';
  /** Milliseconds since the server started, by a clock that is never set. */
  readonly atMs: number;
  readonly status: ServerStatus;
  /** Absent while there is no engine. */
  readonly engine?: { readonly stats: EngineStats; readonly scheduler: SchedulerReport };
  /** Since the sample before. */
  readonly ttft: BinCounts;
  readonly tbt: BinCounts;
  readonly connections: { readonly http: number; readonly webSockets: number };
  /** Those that run, the oldest first, at most 40. */
  readonly running: readonly RequestRow[];
  /** Those that ended since the sample before. */
  readonly ended: readonly RequestRow[];
}

/** One request, without a word of what was in it. */
export interface RequestRow {
  /** Counts them. Not the request's own id, by which what a response holds can be got. */
  readonly number: number;
  /** What its id begins with: chatcmpl, cmpl, resp or stream. */
  readonly kind: string;
  /** Milliseconds since the server started. */
  readonly beganMs: number;
  readonly promptTokens: number;
  /** Of these, found in the prefix cache; known when it has ended. */
  readonly cachedTokens: number | null;
  readonly completionTokens: number;
  readonly choices: number;
  /** Null until it happened. */
  readonly ttftMs: number | null;
  /** The mean over all of its choices. */
  readonly tbtMs: number | null;
  readonly maxTbtMs: number | null;
  /** From its begin to its end, or until now. */
  readonly totalMs: number;
  readonly state: 'waiting' | 'running' | 'stop' | 'length' | 'abort' | 'error';
}
