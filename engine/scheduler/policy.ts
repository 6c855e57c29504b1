import type { Candidate } from './partition.js';
import type { StepLoad } from './step-load.js';
import type { Lane } from './work.js';

/** What a policy may look at when a lane has become free. Loads are of what could run now. */
export interface Situation {
  readonly nowMs: number;
  readonly units: number;
  /** Sequences that decode, all that may run; null if there are none. */
  readonly decode: StepLoad | null;
  /** The load of the first `tokens` tokens of the prompts in their order; null if no prompt can be read. */
  readonly prefill: ((tokens: number) => StepLoad) | null;
  /** Prompt tokens that could be read now, over all prompts that have a slot. */
  readonly prefillTokens: number;
  /** Longest wait of a prompt among these, in ms. */
  readonly oldestWaitMs: number;
  /** Length of that prompt. */
  readonly oldestTokens: number;
  /** Upper bound on a step's tokens. */
  readonly maxStepTokens: number;
  readonly kvUsage: number;
  /** The lanes' steps in flight. Both null: everything is free. */
  readonly inFlight: Readonly<Record<Lane, InFlight | null>>;
}

export interface InFlight {
  readonly load: StepLoad;
  readonly units: number;
}

/**
 * How the device is shared from now on.
 * - `split`: both lanes at once, `prefillUnits` for prompts (at most `chunkTokens` a step) and the rest for decode.
 * - `mixed`: one lane with every unit, whose step carries all decoding sequences and `chunkTokens` of prompts.
 * - `turn`: one lane with every unit, one phase alone.
 */
export type Decision =
  | { readonly mode: 'split'; readonly prefillUnits: number; readonly chunkTokens: number }
  | { readonly mode: 'mixed'; readonly chunkTokens: number }
  | { readonly mode: 'turn'; readonly phase: Lane; readonly chunkTokens: number };

/** Who shares the device how. Pure: what it decides follows from what it was told. */
export interface LanePolicy {
  readonly name: string;
  /** Called when at least one lane is free and at least one phase could run. */
  decide(situation: Situation): Decision;
  /** Told of each finished step. */
  observe?(step: FinishedStep): void;
  /** Of the last choice; undefined while there was none. Absent where nothing is compared. */
  readonly explanation?: Explanation | undefined;
  /** Measured over foreseen seconds of each lane's steps, lately; absent where nothing is foreseen. */
  readonly errorRatio?: Readonly<Record<Lane, number>> | undefined;
}

/** Why the device is shared as it is. */
export interface Explanation {
  readonly nowMs: number;
  /** What is made as fast as a bound on the other allows. */
  readonly favours: 'prefill' | 'decode';
  readonly kvUsage: number;
  /** Upper bound on decode's seconds, or lower bound on prefill's tokens a second. */
  readonly bound: number;
  /** All that were compared. */
  readonly candidates: readonly Candidate[];
  readonly chosen: Candidate;
  /** The best one promised too little more than the present one, which was kept. */
  readonly isKept: boolean;
}

export interface FinishedStep {
  readonly lane: Lane;
  readonly load: StepLoad;
  readonly units: number;
  readonly seconds: number;
  /** By operator class (see `operatorClasses`), where the device measures it. */
  readonly opSeconds?: Float64Array;
  /** What ran on the other lane when it started. */
  readonly other: InFlight | null;
  readonly nowMs: number;
}
