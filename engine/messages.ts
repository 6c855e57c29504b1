import type { EngineSettings, ModelSettings } from '../config/schema.js';
import { EngineError, type EngineErrorCode, type EngineErrorDetails } from './errors.js';
import type { ModelDescription } from './model/description.js';
import type { Explanation } from './scheduler/policy.js';
import type {
  EngineInfo,
  EngineStats,
  GenerateRequest,
  PolicyChange,
  SchedulerReport,
  TokenEvent,
} from './types.js';

/** What the engine's host is started with. */
export interface WorkerData {
  readonly model: ModelSettings;
  readonly engine: EngineSettings;
  readonly description: ModelDescription;
  /** Whether each of the scheduler's decisions is reported. */
  readonly reportsDecisions: boolean;
}

/** To the engine's host. */
export type Command =
  | { readonly type: 'submit'; readonly number: number; readonly request: GenerateRequest }
  | { readonly type: 'cancel' | 'pause' | 'resume' | 'endSession'; readonly id: string }
  | { readonly type: 'stats' | 'explain'; readonly call: number }
  | { readonly type: 'policy'; readonly call: number; readonly change: PolicyChange }
  | { readonly type: 'drain'; readonly call: number; readonly graceMs: number }
  | { readonly type: 'close'; readonly call: number };

/** From the engine's host. */
export type Report =
  | { readonly type: 'progress'; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly type: 'ready'; readonly info: EngineInfo }
  | { readonly type: 'failed'; readonly error: WireError }
  /** The device is gone; every request has been told, and whoever hears this ends the host. */
  | { readonly type: 'lost'; readonly error: WireError }
  | ({ readonly type: 'events' } & EventBatch)
  | { readonly type: 'decision'; readonly decision: Explanation }
  | { readonly type: 'answer'; readonly call: number; readonly value: EngineStats | SchedulerReport }
  | { readonly type: 'done'; readonly call: number };

/** An `EngineError` as it crosses threads, which keep no classes. */
export interface WireError extends EngineErrorDetails {
  readonly code: EngineErrorCode;
  readonly message: string;
}

export function wireError({ code, message, retryAfterSeconds, part }: EngineError): WireError {
  return { code, message, retryAfterSeconds, part };
}

export function engineError({ code, message, ...details }: WireError): EngineError {
  return new EngineError(code, message, details);
}

type WireEvent =
  | Exclude<TokenEvent, { type: 'error' }>
  | { readonly type: 'error'; readonly error: WireError };

/**
 * All events of one step in one message. Nearly all of them are one token with its text: these go in columns, which cost
 * a tenth of as many objects to clone. `others` has the rest, in order: it belongs behind the column's first `after`
 * rows.
 */
export interface EventBatch {
  readonly numbers: Int32Array;
  readonly choices: Int32Array;
  readonly tokens: Int32Array;
  readonly texts: readonly string[];
  readonly others: readonly { readonly after: number; readonly number: number; readonly event: WireEvent }[];
}
