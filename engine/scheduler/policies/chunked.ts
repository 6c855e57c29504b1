import type { Decision, LanePolicy, Situation } from '../policy.js';

/**
 * One lane, mixed steps under a token budget: all decoding sequences first, prompts with what is left. What vLLM and
 * Sarathi-Serve do.
 */
export class ChunkedPolicy implements LanePolicy {
  readonly name = 'chunked';

  constructor(private readonly budgetTokens: number) {}

  decide({ decode }: Situation): Decision {
    // However many decode, prompts get on by a page a step.
    const chunkTokens = Math.max(32, this.budgetTokens - (decode?.decodeSequences ?? 0));
    return { mode: 'mixed', chunkTokens };
  }
}
