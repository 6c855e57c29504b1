import type { Phase, Work } from '../../scheduler/work.js';
import type { CachedPrefix } from './simulated-cache.js';

/** A request in the simulator: counts, and the hashes of its prompt's blocks where the trace has them. */
export class SimulatedSequence implements Work {
  phase: Phase = 'waiting';
  inFlight = false;
  packing = false;
  computedTokens = 0;
  readonly priority = 0;
  readonly deadlineMs = Number.POSITIVE_INFINITY;
  readonly paused = false;
  generatedTokens = 0;
  /** Tokens whose KV another device has computed and sent, until they have found their place. */
  arrivedTokens = 0;

  /** Pages of its own, cached ones not among them. `SimulatedMemory` keeps these two. */
  pages = 0;
  /** The cached blocks that it begins with, as many as it shares. */
  prefix: CachedPrefix[] = [];

  constructor(
    readonly serial: number,
    readonly arrivalMs: number,
    readonly promptTokens: number,
    readonly outputTokens: number,
    readonly blockHashes: readonly number[],
  ) {}

  get tokenCount(): number {
    return this.promptTokens + this.generatedTokens;
  }

  get remainingTokens(): number {
    return this.tokenCount - this.computedTokens;
  }

  get remainingOutput(): number {
    return this.outputTokens - this.generatedTokens;
  }
}
