import type { PrefillWork } from './prefill-queue.js';

/**
 * waiting: no slot, nothing computed. prefill: has a slot, its prompt is being read. decode: one token a step.
 * swappingOut, swapped, swappingIn: its KV is on its way to host memory, there, on its way back. ended: its slot is free, or
 * will be when its step or copy in flight is done.
 */
export type Phase = 'waiting' | 'prefill' | 'decode' | 'swappingOut' | 'swapped' | 'swappingIn' | 'ended';

/** A sequence as the scheduler sees it: counts, no tokens. The scheduler owns the fields that are not read-only. */
export interface Work extends PrefillWork {
  phase: Phase;
  /** A step that names it is running. */
  inFlight: boolean;
  /** Pages of its KV are being packed. It may run meanwhile, but keeps its slot; its memory sets this. */
  packing: boolean;
  /** Of its tokens, those whose KV is there. While it waits: those that the prefix cache had when it came. */
  computedTokens: number;
  /** Prompt, and what was generated. */
  readonly tokenCount: number;
  /** Tokens it may still generate. */
  readonly remainingOutput: number;
  /** Unique, and larger for those that came later. */
  readonly serial: number;
  /** Nobody reads its answer at the moment; it is left out of steps, and gives way first. */
  readonly paused: boolean;
}

/** Whether `a` goes on rather than `b` where there is memory for one: by priority, of equals who came earlier. */
export function outranks(a: Work, b: Work): boolean {
  return a.priority === b.priority ? a.serial < b.serial : a.priority > b.priority;
}

export type Lane = 'prefill' | 'decode';

export function otherLane(lane: Lane): Lane {
  return lane === 'prefill' ? 'decode' : 'prefill';
}

/** A sequence's part of a step. */
export interface Chunk<W> {
  readonly work: W;
  /** Tokens that the step adds to its KV. */
  readonly tokens: number;
  /** Whether they are its prompt's (brought by the step), or its last sampled token. */
  readonly isPrompt: boolean;
}

/** One step, to be started now. The scheduler holds its lane for busy until `complete` or `fail`. */
export interface StepPlan<W> {
  readonly lane: Lane;
  /** It begins when the lane's running step ends: its sequences go on with what that one samples. */
  readonly follows?: boolean;
  /** Compute units that the lane gets for this step. */
  readonly units: number;
  readonly chunks: readonly Chunk<W>[];
}
